"""The decode attention kernel, against the plain one; memory that nothing wrote holds NaN."""

from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from rgpipeline.model.griffin_state import AttentionState, Position, QuantizedAttentionState
from rgpipeline.model.kernels import decode_attention
from rgpipeline.model.layers import rings
from rgpipeline.model.ops import temporal
from tests.model.running import COMPILED_FAST

INTERPRET = pltpu.InterpretParams(uninitialized_memory="nan", detect_races=True)
KERNEL = jax.jit(
    partial(decode_attention.decode, interpret=INTERPRET), compiler_options=COMPILED_FAST
)
IN_INT8 = QuantizedAttentionState(*(jnp.zeros(0) for _ in range(3)))


class Case:
    """Random queries, keys, values and rings of `filled` tokens each (-1: not active)."""

    def __init__(
        self, filled: list[int], heads: int, window: int, size: int, quantized: bool = False
    ) -> None:
        rng = np.random.default_rng(0)
        batch = len(filled)

        def random(*shape: int) -> jax.Array:
            return jnp.asarray(rng.normal(size=shape), jnp.bfloat16)

        self.queries, self.keys, self.values = (
            random(batch, 1, heads, size),
            random(batch, 1, size),
            random(batch, 1, size),
        )
        both = random(batch, window, size), random(batch, window, size)
        self.state = AttentionState(*both)
        if quantized:
            self.state = rings.to_storage(*both, like=IN_INT8)
        self.active = jnp.asarray(filled) >= 0
        count = jnp.maximum(jnp.asarray(filled, jnp.int32), 0)
        at = jnp.where(count == window, rng.integers(0, window, batch), count)
        self.position = Position(count, count, at.astype(jnp.int32), count)

    def run(self, decode):
        return decode(self.queries, self.keys, self.values, self.state, self.position, self.active)

    def kernel_again(self):
        return self.run(KERNEL)

    kernel = cached_property(kernel_again)

    @cached_property
    def plain(self):
        def decode(queries, *rest):
            return temporal.attention_decode(queries, *rest, kernels="plain")

        def in_float32(queries, *rest):
            return decode(queries.astype(jnp.float32), *rest)

        # In bfloat16, the plain way would round what int8 stands for once more.
        quantized = isinstance(self.state, QuantizedAttentionState)
        return self.run(in_float32 if quantized else decode)


TOLERANCE = {2: 4e-3, 3: 8e-3}  # by the arrays of a ring; in int8 the weights carry the scales
SHAPES = [(3, 512, 128, False), (10, 1024, 256, False), (10, 1024, 256, True)]


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def case(request) -> Case:
    heads, window, size, quantized = request.param
    filled = [0, 1, 15, -1, 511, 512, window, window]
    return Case(filled * (2 if quantized else 1), heads, window, size, quantized)


def by_slot(state) -> list[np.ndarray]:
    """Everything in the rings, [b w ...]."""
    arrays = [np.asarray(array.astype(jnp.float32)) for array in state]
    return [*arrays[:2], *(scales.swapaxes(1, 2) for scales in arrays[2:])]


def test_gathers_what_the_plain_way_does(case: Case) -> None:
    found, expected = case.kernel[0], case.plain[0]
    rows = np.asarray(case.active)
    np.testing.assert_allclose(
        np.asarray(found)[rows], np.asarray(expected)[rows], atol=TOLERANCE[len(case.state)]
    )


def test_leaves_the_rings_the_plain_way_does_bit_for_bit(case: Case) -> None:
    held = np.arange(case.state.keys.shape[1]) <= np.asarray(case.position.filled)[:, None]
    for found, expected in zip(by_slot(case.kernel[1]), by_slot(case.plain[1]), strict=True):
        np.testing.assert_array_equal(found[held], expected[held])


def test_a_row_that_is_not_active_keeps_its_rings(case: Case) -> None:
    for found, before in zip(case.kernel[1], case.state, strict=True):
        assert np.asarray(found)[3].tobytes() == np.asarray(before)[3].tobytes()


@pytest.mark.parametrize("quantized", [False, True])
def test_a_row_that_overflowed_spoils_no_other(quantized: bool) -> None:
    case = Case([1024] * 8 + [3] * 4, 2, 1024, 128, quantized)
    case.values = case.values.at[:8].set(jnp.inf)
    case.position = case.position._replace(ring=case.position.ring.at[:8].set(700))
    _, case.state = case.kernel
    assert np.isfinite(np.asarray(case.kernel_again()[0])[8:]).all()
