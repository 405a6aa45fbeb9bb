"""Parts of arrays written anew, against numpy's assignment; in bfloat16 a CPU goes its own way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rgpipeline.model.ops import row_writes

SLOTS, WINDOW, WIDTH = 5, 4, 3


@pytest.fixture(params=["float32", "bfloat16", "int8"])
def array(request: pytest.FixtureRequest) -> jax.Array:
    return numbers((SLOTS, WINDOW, WIDTH), request.param)


def numbers(shape: tuple[int, ...], dtype: object, first: int = 1) -> jax.Array:
    count = int(np.prod(shape))
    return jnp.arange(first, first + count).reshape(shape).astype(dtype)


def test_one_row(array: jax.Array) -> None:
    row = numbers((1, WINDOW, WIDTH), array.dtype, 70)
    expected = np.array(array)
    expected[3] = row[0]
    np.testing.assert_array_equal(jax.jit(row_writes.set_row)(array, jnp.int32(3), row), expected)


@pytest.mark.parametrize("places", [[4], [2, 0, SLOTS], [SLOTS, SLOTS + 1], [1, 4, 3, 0, 2]])
def test_rows_with_those_past_the_end_dropped(array: jax.Array, places: list[int]) -> None:
    rows = numbers((len(places), WINDOW, WIDTH), array.dtype, 64)
    expected = np.array(array)
    for place, row in zip(places, np.array(rows), strict=True):
        if place < SLOTS:
            expected[place] = row
    written = jax.jit(row_writes.set_rows)(array, jnp.array(places), rows)
    np.testing.assert_array_equal(written, expected)


def test_one_place_in_each_row(array: jax.Array) -> None:
    places, new = np.array([0, 3, 1, 3, 2]), numbers((SLOTS, WIDTH), array.dtype, 100)
    expected = np.array(array)
    expected[np.arange(SLOTS), places] = new
    written = jax.jit(row_writes.set_one_in_each_row)(array, jnp.array(places), new)
    np.testing.assert_array_equal(written, expected)


def test_what_is_no_number_stays_in_its_own_row() -> None:
    array = jnp.zeros((SLOTS, WIDTH), jnp.bfloat16).at[1].set(jnp.nan)
    written = jax.jit(row_writes.set_rows)(
        array, jnp.array([2, 1]), jnp.array([[jnp.inf] * WIDTH, [1.0] * WIDTH], jnp.bfloat16)
    )
    expected = np.zeros((SLOTS, WIDTH))
    expected[2], expected[1] = np.inf, 1
    np.testing.assert_array_equal(written, expected)
