"""The GPU's scan, interpreted: the plain scan's bits, for any shape and any division in chunks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rgpipeline.model.kernels.recurrence_scan import scan_on_gpu, select_on_gpu
from rgpipeline.model.layers import rglru


def case(batch: int, length: int, inner: int) -> tuple[rglru.Step, jax.Array]:
    rng = np.random.default_rng(length)
    decay, drive = rng.uniform(size=(batch, length, inner)), rng.normal(size=(batch, length, inner))
    step = rglru.Step(jnp.asarray(decay, jnp.float32), jnp.asarray(drive, jnp.float32))
    return step, jnp.asarray(rng.normal(size=(batch, inner)), jnp.float32)


def scan(step: rglru.Step, h: jax.Array) -> np.ndarray:
    return np.asarray(scan_on_gpu(step, h, interpret=True))


@pytest.mark.parametrize("shape", [(2, 64, 96), (1, 16, 128), (3, 20, 33), (1, 1, 8)], ids=str)
def test_states_are_those_of_the_plain_scan(shape: tuple[int, int, int]) -> None:
    step, h = case(*shape)

    np.testing.assert_array_equal(scan(step, h), rglru.scan(step, h))


@pytest.mark.parametrize("first", [4, 16, 48])
def test_a_sequence_in_two_chunks_has_the_same_states(first: int) -> None:
    step, h = case(2, 64, 64)
    before = scan(rglru.Step(*(part[:, :first] for part in step)), h)
    after = scan(rglru.Step(*(part[:, first:] for part in step)), jnp.asarray(before[:, -1]))

    np.testing.assert_array_equal(np.concatenate([before, after], axis=1), scan(step, h))


def test_only_gpus_take_it() -> None:
    assert select_on_gpu("gpu")
    assert not any(select_on_gpu(kernels) for kernels in ("plain", "tpu", "interpret"))
