"""RoPE and the recurrence far from the start."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rgpipeline.model.config import ATTENTION, RECURRENT, GriffinConfig
from rgpipeline.model.layers import attention, rglru
from rgpipeline.model.params import random_params
from tests.model.official import pair
from tests.model.running import Runner, worst
from tests.model.test_state import position_at

FAR = [8190, 2**16 + 5, 2**31 - 3, 2**31 + 8190, 2**40 + 1]


@pytest.mark.parametrize("place", [0, 100, *FAR])
def test_angles_are_those_of_exact_arithmetic(place: int) -> None:
    head_dim, count = 64, 20
    found = attention.angles(position_at(place, 16), count, head_dim)
    frequencies = [float(np.float32(1) / np.float32(10_000 ** (i / 16))) for i in range(16)]
    # Whole turns are taken off in integers: a float64 product has too few digits at 2^40.
    parts = [(f * 2**60).as_integer_ratio()[0] for f in frequencies]
    turn = round(math.tau * 2**60)
    exact = [[(p * (place + i) % turn) / 2**60 for p in parts] for i in range(count)]
    drift = 2e-3 + place * 2e-13
    np.testing.assert_allclose(found.cos[0], np.cos(exact), atol=drift)
    np.testing.assert_allclose(found.sin[0], np.sin(exact), atol=drift)


@pytest.mark.parametrize("place", FAR)
def test_attention_depends_on_distances_only(place: int) -> None:
    """An attention-only model says the same wherever its text starts."""
    config = GriffinConfig(61, 32, 48, 2, 32, (ATTENTION, ATTENTION), window=6)
    runner = Runner(config, random_params(config, 0, "float32"))
    prompt = [np.arange(25, dtype=np.int32)]
    near, _ = runner.in_chunks(prompt, 4)
    moved = position_at(place, config.window)._replace(filled=jnp.zeros(1, jnp.int32))
    far, _ = runner.in_chunks(prompt, 4, runner.empty(1)._replace(position=moved))
    assert worst(far, near) < 1e-3


def test_the_recurrence_holds_for_a_hundred_thousand_steps() -> None:
    rng = np.random.default_rng(0)
    steps, width, chunk = 100_000, 4, 5_000
    decay = rng.uniform(0.9, 0.9999, (1, steps, width)).astype(np.float32)
    drive = rng.standard_normal((1, steps, width)).astype(np.float32)
    h = jnp.zeros((1, width), jnp.float32)
    scan = jax.jit(rglru.scan)
    for first in range(0, steps, chunk):
        piece = slice(first, first + chunk)
        h = scan(rglru.Step(jnp.array(decay[:, piece]), jnp.array(drive[:, piece])), h)[:, -1]
    exact = np.zeros(width)
    for index in range(steps):
        exact = decay[0, index].astype(np.float64) * exact + drive[0, index]
    np.testing.assert_allclose(h[0], exact, rtol=1e-5, atol=1e-5)


def test_a_hundred_thousand_tokens_leave_the_officials_state() -> None:
    config = GriffinConfig(50, 16, 16, 2, 24, (RECURRENT, RECURRENT))
    models = pair(config, 0)
    tokens = np.random.default_rng(0).integers(0, 50, 100_000).astype(np.int32)
    _, state = models.ours.in_chunks([tokens], 5_000)
    for block, theirs in zip(state.blocks, models.theirs.states_after(tokens), strict=True):
        np.testing.assert_allclose(block.h, theirs, atol=1e-4)


def test_any_chunking_gives_the_recurrence_the_same_bits() -> None:
    rng = np.random.default_rng(0)
    decay, drive = (jnp.array(rng.random((2, 30, 8)), jnp.float32) for _ in range(2))
    whole = rglru.scan(rglru.Step(decay, drive), jnp.zeros((2, 8)))
    h = jnp.zeros((2, 8))
    for first, last in ((0, 1), (1, 8), (8, 21), (21, 30)):
        h = rglru.scan(rglru.Step(decay[:, first:last], drive[:, first:last]), h)[:, -1]
    assert np.asarray(h).tobytes() == np.asarray(whole[:, -1]).tobytes()
