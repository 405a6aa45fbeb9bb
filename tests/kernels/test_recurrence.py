"""The recurrence kernel, against the plain recurrent block."""

from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rgpipeline.model.griffin_state import RecurrentState
from rgpipeline.model.kernels import recurrence
from rgpipeline.model.layers import rglru
from rgpipeline.model.ops.primitives import block_diagonal

TAPS, SIZE = 4, 128


class Case:
    """Random weights, activations and state; every third row starts, every fourth is idle."""

    def __init__(self, batch: int, blocks: int) -> None:
        rng = np.random.default_rng(batch)
        inner = blocks * SIZE

        def random(*shape: int, dtype: str = "float32", scale: float = 1.0) -> jax.Array:
            return jnp.asarray(rng.normal(size=shape) * scale, dtype)

        self.both = random(2, batch, inner, dtype="bfloat16")
        self.weights = rglru.RecurrentWeights(
            random(TAPS, inner),
            random(inner),
            random(blocks, SIZE, 2 * SIZE, dtype="bfloat16", scale=SIZE**-0.5),
            random(2, blocks, SIZE),
            random(inner),
        )
        tail = tuple(random(batch, inner, dtype="bfloat16") for _ in range(TAPS - 1))
        self.state = RecurrentState(random(batch, inner), tail)
        self.starts = jnp.arange(batch) % 3 == 0
        self.active = jnp.arange(batch) % 4 != 0

    @cached_property
    def kernel(self):
        assert recurrence.select("interpret", self.state, self.weights.gates)
        return recurrence.step(
            self.both, self.weights, self.starts, self.active, self.state, interpret=True
        )

    @cached_property
    def plain(self):
        x, y = self.both[:, :, None]
        convolved = rglru.convolve(
            x, self.state.conv, self.weights.conv_kernel, self.weights.conv_bias
        )
        gates = block_diagonal(convolved, self.weights.gates, self.weights.gates_bias)
        step = rglru.gate(convolved, gates, self.weights.a_param, self.starts[:, None])
        reached, h = rglru.state_after_one(step, self.state.h, self.active)
        out = (reached * jax.nn.gelu(y.astype(jnp.float32))).astype(jnp.bfloat16)
        tail = rglru.tail_after_one(x, self.state.conv, self.active)
        return out[:, 0], RecurrentState(h, tail)


@pytest.fixture(scope="module", params=[(16, 1), (160, 3)], ids=str)
def case(request) -> Case:
    return Case(*request.param)


def test_gives_the_plain_output(case: Case) -> None:
    found, expected = (np.asarray(x[0].astype(jnp.float32)) for x in (case.kernel, case.plain))
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-2)


def test_reaches_the_plain_state(case: Case) -> None:
    np.testing.assert_allclose(case.kernel[1].h, case.plain[1].h, rtol=3e-3, atol=3e-3)
    for found, expected in zip(case.kernel[1].conv, case.plain[1].conv, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_row_that_is_not_active_keeps_its_state(case: Case) -> None:
    idle = ~np.asarray(case.active)
    for found, before in zip(
        jax.tree.leaves(case.kernel[1]), jax.tree.leaves(case.state), strict=True
    ):
        assert np.asarray(found)[idle].tobytes() == np.asarray(before)[idle].tobytes()
