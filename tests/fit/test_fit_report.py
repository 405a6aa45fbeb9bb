"""What `fit` says of what it found."""

from dataclasses import replace

from rgpipeline.fit.fit_report import (
    DecodeCost,
    FitReport,
    HbmBytes,
    PrefillCost,
    limit_sentence,
)
from rgpipeline.fit.program_cost import ComponentCost, component_name

REPORT = FitReport(
    model="recurrentgemma-2b",
    topology="v5e:1x1x1",
    slots=256,
    dtype="bfloat16",
    quantize="none",
    fits=True,
    hbm_bytes=HbmBytes(5 << 30, 4 << 30, 1 << 28, (9 << 30) + (1 << 28), 15 << 30),
    decode=DecodeCost(
        hbm_bytes_per_step=8_190_000_000,
        minimum_hbm_bytes_per_step=7_371_000_000,
        flops_per_step=1,
        compiler_cycles_per_step=12_000_000,
        collectives={"all-reduce": 52},
        tokens_per_second_bound=25_600.0,
        limited_by="hbm",
    ),
    prefill=PrefillCost(1, 1, 1, 40_000.0, "compute"),
    compile_seconds=61.5,
    decode_components=(ComponentCost("mlp/up", 2_000_000_000, 3_000_000),),
)


def test_the_json_has_these_names_and_no_others() -> None:
    told = REPORT.to_json()

    assert list(told) == [
        "model", "topology", "slots", "dtype", "quantize", "fits", "hbm_bytes", "decode",
        "prefill", "compile_seconds",
    ]  # fmt: skip
    assert list(told["hbm_bytes"]) == ["weights", "state", "temporary", "total", "capacity"]
    assert list(told["decode"]) == [
        "hbm_bytes_per_step", "minimum_hbm_bytes_per_step", "flops_per_step",
        "compiler_cycles_per_step", "collectives", "tokens_per_second_bound", "limited_by",
    ]  # fmt: skip
    assert list(told["prefill"]) == [
        "hbm_bytes_per_chunk", "flops_per_chunk", "compiler_cycles_per_chunk",
        "tokens_per_second_bound", "limited_by",
    ]  # fmt: skip


def test_the_sentence_says_what_limits() -> None:
    assert limit_sentence(REPORT) == (
        "decode is limited by memory (10 ms of memory traffic, 8 ms of computing a step); "
        "90% of the traffic is weights and state, which every step must read"
    )


def test_a_slow_computation_is_named() -> None:
    assert REPORT.decode is not None
    slow = replace(REPORT.decode, compiler_cycles_per_step=30_000_000, limited_by="compute")

    assert limit_sentence(replace(REPORT, decode=slow)).endswith("its largest part is mlp/up")


def test_what_does_not_fit_is_told_by_how_much() -> None:
    memory = HbmBytes(5 << 30, 12 << 30, 1 << 30, 18 << 30, 15 << 30)
    refused = replace(REPORT, fits=False, hbm_bytes=memory, decode=None, prefill=None)

    assert "18.00 GiB of memory are needed, 3.00 GiB more than the chip has" in refused.render()


def test_several_chips_are_told() -> None:
    assert "25,600 tokens/s a chip, 4 chips" in replace(REPORT, mesh=(4, 1)).render()


def test_an_instructions_part_of_the_model_is_read_from_its_metadata() -> None:
    inside = "jit(decode)/while/body/closed_call/Griffin.decode/blocks_3.decode"

    assert component_name(
        f'metadata={{op_name="{inside}/temporal.decode/linear_out/dot_general"}}'
    ) == ("temporal/linear_out")
    assert component_name(
        f'metadata={{op_name="{inside}/blocks_3._channels/mlp/up/dot_general"}}'
    ) == ("mlp/up")
    assert component_name('metadata={op_name="jit(decode)/while/body/closed_call/exp"}') == (
        "sampling and bookkeeping"
    )
    assert component_name("calls=%f") == "copies"
