"""A worker's programs, lowered without weights and without the device they are for."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from rgpipeline.engine.programs.device_programs import compiler_options
from rgpipeline.engine.programs.lowering import (
    WorkerPrograms,
    decode_weights_bytes,
    model_flops,
    tree_bytes,
    worker_programs,
)
from rgpipeline.model.config import GRIFFIN_CYCLE, GriffinConfig, cycle, known_config
from rgpipeline.model.params import param_shapes
from rgpipeline.records import ResolvedSettings

CONFIG = GriffinConfig(512, 64, 128, 4, 64, cycle(GRIFFIN_CYCLE, 3), window=32)
SETTINGS = ResolvedSettings("bfloat16", slots=4, prefill_chunk=16, steps_per_dispatch=2)


@pytest.fixture(scope="module")
def for_cuda() -> WorkerPrograms:
    return worker_programs(CONFIG, SETTINGS, None, platform="cuda")


@pytest.mark.parametrize("name", ["decode", "prefill", "insert", "assign"])
def test_each_program_lowers_for_cuda_without_a_gpu(for_cuda: WorkerPrograms, name: str) -> None:
    exported = for_cuda.programs[name].export("cuda")

    assert exported.platforms == ("cuda",)


def test_a_gpu_reads_prompts_by_its_own_scan(for_cuda: WorkerPrograms) -> None:
    lowered = for_cuda.programs["prefill"].export("cuda").mlir_module()

    assert lowered.count('name = "gpu_scan"') == CONFIG.block_types.count("recurrent")
    assert "stablehlo.while" not in lowered


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_the_compiler_knows_the_options_that_a_platform_needs(platform: str) -> None:
    assert jax.jit(jnp.negative, compiler_options=compiler_options(platform))(1) == -1

    with pytest.raises(jax.errors.JaxRuntimeError, match="option"):
        jax.jit(jnp.negative, compiler_options={"xla_gpu_no_such": 0})(1)


def test_weights_are_counted_as_they_are_held() -> None:
    """RecurrentGemma-2B has 2.68 billion parameters, most of them in two bytes each."""
    shapes = param_shapes(known_config("recurrentgemma-2b"), jnp.bfloat16)

    assert tree_bytes(shapes) == pytest.approx(2 * 2.68e9, rel=0.01)


def test_a_head_of_its_own_is_held_and_read_beside_the_embedding() -> None:
    tied, untied = (
        param_shapes(replace(CONFIG, tied=tied), jnp.bfloat16) for tied in (True, False)
    )
    head = 2 * CONFIG.vocab_size * CONFIG.width

    assert tree_bytes(untied) == tree_bytes(tied) + head
    assert decode_weights_bytes(untied) == decode_weights_bytes(tied)
    assert model_flops(replace(CONFIG, tied=False), 4, 4) == model_flops(CONFIG, 4, 4)


def test_a_token_takes_two_operations_for_each_parameter_it_meets() -> None:
    config = known_config("recurrentgemma-2b")
    attention = 8 * 4 * 2560 * 2049  # layers, products, width of all heads, keys

    assert model_flops(config, 1, 1) - attention == pytest.approx(2 * 2.68e9, rel=0.01)
