"""A worker's decode block for four chips, by the TPU's compiler: kernels and collectives."""

import json

import pytest

from rgpipeline.fit.compilation import Compiled, CompileRequest, compile_programs
from rgpipeline.fit.topology import chip_of
from rgpipeline.spec import ModelSpec
from tests.fit.test_fit import CONFIG


@pytest.fixture(scope="module")
def divided(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """Two groups of two chips."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return compile_programs(
        CompileRequest(
            ModelSpec(weights=str(folder), dtype="bfloat16"),
            "v5e:2x2",
            128,
            (2, 2),
            chip_of("v5e:2x2").hbm_bytes,
            engine={"steps_per_dispatch": 2},
            storage_options={},
            programs=("decode",),
        )
    )


def test_each_chip_runs_the_kernels_on_its_own_part(divided: Compiled) -> None:
    text = divided.programs["decode"].text

    for kernel in ("recurrence", "decode_attention", "head"):
        assert f"/{kernel}" in text
    # Of 128 slots, a chip has the rings of 32, and with another the channels of 64.
    assert "bf16[32,1024,256]" in text
    assert "f32[64,256]" in text


def test_collectives_are_counted_for_a_step(divided: Compiled) -> None:
    """Three blocks, one of them attention; the head's kernel draws, so that no logits move."""
    collectives = divided.programs["decode"].cost.collectives

    assert {name: count // divided.steps for name, count in collectives.items()} == {
        "all-reduce": 1 + 2 * 3,  # of two chips, whose sum has no order
        "all-to-all": 2 * 1,
        "all-gather": 1,
    }


def test_memory_is_that_of_one_chip(divided: Compiled) -> None:
    ring = 2 * 1024 * 256 * 2  # bytes of a slot

    assert divided.state_bytes == pytest.approx(32 * ring, rel=0.05)
