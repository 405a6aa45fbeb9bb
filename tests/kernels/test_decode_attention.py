"""The decode attention kernel, against the plain one; memory that nothing wrote holds NaN."""

from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from rgpipeline.model import attention
from rgpipeline.model.kernels import decode_attention
from rgpipeline.model.state import AttentionState, Position

INTERPRET = pltpu.InterpretParams(uninitialized_memory="nan", detect_races=True)


class Case:
    """Random queries, keys, values and rings of `filled` tokens each (-1: not active)."""

    def __init__(self, filled: list[int], heads: int, window: int, size: int) -> None:
        rng = np.random.default_rng(0)
        batch = len(filled)

        def random(*shape: int) -> jax.Array:
            return jnp.asarray(rng.normal(size=shape), jnp.bfloat16)

        self.queries, self.keys, self.values = (
            random(batch, 1, heads, size),
            random(batch, 1, size),
            random(batch, 1, size),
        )
        self.state = AttentionState(random(batch, window, size), random(batch, window, size))
        self.active = jnp.asarray(filled) >= 0
        count = jnp.maximum(jnp.asarray(filled, jnp.int32), 0)
        at = jnp.where(count == window, rng.integers(0, window, batch), count)
        self.position = Position(count, count, at.astype(jnp.int32), count)

    def run(self, decode):
        return decode(self.queries, self.keys, self.values, self.state, self.position, self.active)

    def kernel_again(self):
        return self.run(partial(decode_attention.decode, interpret=INTERPRET))

    kernel = cached_property(kernel_again)
    plain = cached_property(lambda self: self.run(attention.decode))


@pytest.fixture(scope="module", params=[(3, 512, 128), (10, 1024, 256)], ids=str)
def case(request) -> Case:
    heads, window, size = request.param
    return Case([0, 1, 15, -1, 511, 512, window, window], heads, window, size)


def test_gathers_what_the_plain_way_does(case: Case) -> None:
    found, expected = case.kernel[0], case.plain[0]
    rows = np.asarray(case.active)
    np.testing.assert_allclose(np.asarray(found)[rows], np.asarray(expected)[rows], atol=4e-3)


def test_leaves_the_rings_the_plain_way_does_bit_for_bit(case: Case) -> None:
    held = np.arange(case.state.keys.shape[1]) <= np.asarray(case.position.filled)[:, None]
    for found, expected in zip(case.kernel[1], case.plain[1], strict=True):
        found, expected = (np.asarray(x.astype(jnp.float32)) for x in (found, expected))
        np.testing.assert_array_equal(found[held], expected[held])


def test_a_row_that_is_not_active_keeps_its_rings(case: Case) -> None:
    for found, before in zip(case.kernel[1], case.state, strict=True):
        assert np.asarray(found)[3].tobytes() == np.asarray(before)[3].tobytes()


def test_a_row_that_overflowed_spoils_no_other() -> None:
    case = Case([1024, 1024, 1024, 1024, 3, 3], 2, 1024, 128)
    case.values = case.values.at[:4].set(jnp.inf)
    case.position = case.position._replace(ring=case.position.ring.at[:4].set(700))
    _, case.state = case.kernel
    assert np.isfinite(np.asarray(case.kernel_again()[0])[4:]).all()
