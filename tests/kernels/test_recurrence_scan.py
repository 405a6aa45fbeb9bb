"""The recurrence kernel for chunks, against the plain recurrent block and against itself."""

from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from rgpipeline.model.griffin_state import RecurrentState
from rgpipeline.model.kernels import recurrence_scan
from rgpipeline.model.layers import rglru
from rgpipeline.model.ops.primitives import block_diagonal

INTERPRET = pltpu.InterpretParams(uninitialized_memory="nan")
TAPS, SIZE, LENGTH = 4, 128, 272  # seventeen tiles of 16 tokens
LENGTHS = [272, 0, 2, 150]


class Case:
    """Random weights, inputs and state; every second row starts with the chunk."""

    def __init__(self, blocks: int) -> None:
        rng = np.random.default_rng(blocks)
        batch, inner = len(LENGTHS), blocks * SIZE

        def random(*shape: int, dtype: str = "float32", scale: float = 1.0) -> jax.Array:
            return jnp.asarray(rng.normal(size=shape) * scale, dtype)

        self.both = random(2, batch, LENGTH, inner, dtype="bfloat16")
        self.weights = rglru.RecurrentWeights(
            random(TAPS, inner, scale=0.5),
            random(inner, scale=0.1),
            random(blocks, SIZE, 2 * SIZE, dtype="bfloat16", scale=SIZE**-0.5),
            random(2, blocks, SIZE),
            random(inner) - 4,
        )
        tail = tuple(random(batch, inner, dtype="bfloat16") for _ in range(TAPS - 1))
        self.state = RecurrentState(random(batch, inner), tail)
        self.starts = jnp.arange(batch) % 2 == 0
        self.lengths = jnp.asarray(LENGTHS, jnp.int32)

    @cached_property
    def kernel(self):
        assert recurrence_scan.select("interpret", LENGTH, self.state, self.weights.gates)
        return self.run(self.both, self.starts, self.lengths, self.state)

    def run(self, both, starts, lengths, state):
        return recurrence_scan.scan(both, self.weights, starts, lengths, state, interpret=INTERPRET)

    @cached_property
    def plain(self):
        x, y = self.both
        convolved = rglru.convolve(
            x, self.state.conv, self.weights.conv_kernel, self.weights.conv_bias
        )
        gates = block_diagonal(convolved, self.weights.gates, self.weights.gates_bias)
        starts = self.starts[:, None] & (jnp.arange(LENGTH) == 0)
        step = rglru.gate(convolved, gates, self.weights.a_param, starts)
        states = rglru.scan(step, self.state.h)
        out = (states * jax.nn.gelu(y.astype(jnp.float32))).astype(jnp.bfloat16)
        h = rglru.state_after(states, self.state.h, self.lengths)
        return out, RecurrentState(h, rglru.tail_after(x, self.state.conv, self.lengths))


@pytest.fixture(scope="module")
def case() -> Case:
    return Case(1)


def test_gives_the_plain_output(case: Case) -> None:
    counts = np.arange(LENGTH) < np.asarray(LENGTHS)[:, None]
    found, expected = (np.asarray(x[0].astype(jnp.float32)) for x in (case.kernel, case.plain))
    np.testing.assert_allclose(found[counts], expected[counts], rtol=2e-2, atol=2e-2)


def test_reaches_the_plain_state(case: Case) -> None:
    np.testing.assert_allclose(case.kernel[1].h, case.plain[1].h, rtol=1e-2, atol=1e-2)
    for found, expected in zip(case.kernel[1].conv, case.plain[1].conv, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_row_of_no_tokens_keeps_its_state(case: Case) -> None:
    for found, before in zip(
        jax.tree.leaves(case.kernel[1]), jax.tree.leaves(case.state), strict=True
    ):
        assert np.asarray(found)[1].tobytes() == np.asarray(before)[1].tobytes()


@pytest.mark.parametrize("cut", [16, 160])
def test_any_division_into_chunks_gives_the_same_bits(case: Case, cut: int) -> None:
    never = jnp.zeros_like(case.starts)
    first, state = case.run(
        case.both[:, :, :cut], case.starts, jnp.minimum(case.lengths, cut), case.state
    )
    second, state = case.run(
        case.both[:, :, cut:], never, jnp.maximum(case.lengths - cut, 0), state
    )
    counts = np.arange(LENGTH) < np.asarray(LENGTHS)[:, None]
    divided = np.asarray(jnp.concatenate([first, second], axis=1))
    np.testing.assert_array_equal(divided[counts], np.asarray(case.kernel[0])[counts])
    jax.tree.map(np.testing.assert_array_equal, state, case.kernel[1])
