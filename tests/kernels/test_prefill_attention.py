"""The prefill attention kernel, against the plain one; memory that nothing wrote holds NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from rgpipeline.model.griffin_state import AttentionState, Position
from rgpipeline.model.kernels import prefill_attention
from rgpipeline.model.layers import attention

INTERPRET = pltpu.InterpretParams(uninitialized_memory="nan")
HEADS, SIZE, WINDOW = 2, 256, 512


class Case:
    """Rows of (tokens before the chunk, tokens of it that count)."""

    def __init__(self, rows: list[tuple[int, int]], length: int) -> None:
        rng = np.random.default_rng(length)
        batch = len(rows)

        def random(*shape: int, dtype: str = "float32") -> jax.Array:
            return jnp.asarray(rng.normal(size=shape), dtype)

        before, self.lengths = (
            jnp.asarray(column, jnp.int32) for column in zip(*rows, strict=True)
        )
        self.queries, self.key_value = (
            random(batch, length, HEADS, SIZE),
            random(2, batch, length, SIZE),
        )
        rings = (random(batch, WINDOW, SIZE, dtype="bfloat16") for _ in range(2))
        self.state = AttentionState(*rings)
        self.position = Position(before * 0, before, before % WINDOW, jnp.minimum(before, WINDOW))
        self.angles = attention.angles(self.position, length, SIZE)

    def kernel(self) -> tuple[np.ndarray, AttentionState]:
        assert prefill_attention.select(
            "interpret", self.queries.shape[1], self.state.keys.shape, jnp.bfloat16
        )
        mixed, after = prefill_attention.prefill(
            *(self.queries, self.key_value, self.angles, self.state, self.position, self.lengths),
            interpret=INTERPRET,
        )
        return np.asarray(mixed.astype(jnp.float32)), after

    def plain(self) -> tuple[np.ndarray, AttentionState]:
        turned = (attention.rotate(one, self.angles) for one in (self.queries, self.key_value[0]))
        projected = (one.astype(jnp.bfloat16) for one in (*turned, self.key_value[1]))
        mixed, after = attention.prefill(*projected, self.state, self.position, self.lengths)
        return np.asarray(mixed), after


@pytest.fixture(params=[48, 256, 640])
def case(request) -> Case:
    length = request.param
    drawn = np.random.default_rng(length).integers(1, (4 * WINDOW, length + 1), size=(2, 2))
    edges = [(0, length), (5, length - 1), (WINDOW - 1, length), (2 * WINDOW, 1), (700, 0)]
    return Case([*edges, *map(tuple, drawn)], length)


def test_does_what_the_plain_way_does(case: Case) -> None:
    (found, rings), (expected, expected_rings) = case.kernel(), case.plain()
    counts = np.arange(case.queries.shape[1]) < np.asarray(case.lengths)[:, None]
    np.testing.assert_allclose(found[counts], expected[counts], atol=2e-2)
    for ring, wanted in zip(rings, expected_rings, strict=True):
        ring, wanted = (np.asarray(one.astype(jnp.float32)) for one in (ring, wanted))
        np.testing.assert_allclose(ring, wanted, rtol=8e-3)  # RoPE may round to the next number


def test_tokens_that_do_not_count_gather_numbers() -> None:
    assert np.isfinite(Case([(0, 0), (0, 3), (700, 0)], 256).kernel()[0]).all()


def test_a_ring_that_holds_nothing_is_not_looked_at() -> None:
    case = Case([(0, 256), (0, 7)], 256)
    expected, _ = case.kernel()
    case.state = AttentionState(*(ring * jnp.nan for ring in case.state))
    np.testing.assert_array_equal(case.kernel()[0], expected)


def test_a_row_depends_on_no_other_and_spoils_none() -> None:
    case = Case([(700, 256), (1000, 256)], 256)
    together, _ = case.kernel()
    case.key_value = case.key_value.at[:, 1].set(jnp.inf)
    case.lengths = case.lengths.at[1].set(7)
    apart, rings = case.kernel()
    np.testing.assert_array_equal(apart[0], together[0])
    assert all(np.isfinite(np.asarray(ring.astype(jnp.float32))).all() for ring in rings)


@pytest.mark.parametrize(
    ("length", "window", "dtype"),
    [(40, 512, "bfloat16"), (256, 192, "bfloat16"), (256, 512, "float32")],
)
def test_shapes_the_tiles_forbid_are_left_to_the_plain_way(length, window, dtype) -> None:
    assert prefill_attention.select("tpu", length, (2, window, SIZE), jnp.dtype(dtype)) is None
