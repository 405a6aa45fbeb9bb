"""A worker's programs, lowered without weights and without the device they are for."""

import jax.numpy as jnp
import pytest

from rgpipeline.engine.lowering import WorkerPrograms, model_flops, tree_bytes, worker_programs
from rgpipeline.model.config import GRIFFIN_CYCLE, GriffinConfig, cycle, known_config
from rgpipeline.model.params import param_shapes
from rgpipeline.records import EngineSettings

CONFIG = GriffinConfig(512, 64, 128, 4, 64, cycle(GRIFFIN_CYCLE, 3), window=32)
SETTINGS = EngineSettings("bfloat16", slots=4, prefill_chunk=16, steps_per_dispatch=2)


@pytest.fixture(scope="module")
def for_cuda() -> WorkerPrograms:
    return worker_programs(CONFIG, SETTINGS, None, platform="cuda")


@pytest.mark.parametrize("name", ["decode", "prefill", "seat", "assign"])
def test_each_program_lowers_for_cuda_without_a_gpu(for_cuda: WorkerPrograms, name: str) -> None:
    exported = for_cuda.programs[name].export("cuda")

    assert exported.platforms == ("cuda",)


def test_weights_are_counted_as_they_are_held() -> None:
    """RecurrentGemma-2B has 2.68 billion parameters, most of them in two bytes each."""
    shapes = param_shapes(known_config("recurrentgemma-2b"), jnp.bfloat16)

    assert tree_bytes(shapes) == pytest.approx(2 * 2.68e9, rel=0.01)


def test_a_token_takes_two_operations_for_each_parameter_it_meets() -> None:
    config = known_config("recurrentgemma-2b")
    attention = 8 * 4 * 2560 * 2049  # layers, products, width of all heads, keys

    assert model_flops(config, 1, 1) - attention == pytest.approx(2 * 2.68e9, rel=0.01)
