"""From a program's cost to tokens per second."""

from dataclasses import replace

import pytest

from rgpipeline.fit.bounds import decode_cost, prefill_cost, serial_bound, structured_cost
from rgpipeline.fit.compilation import Compiled, CompiledProgram
from rgpipeline.fit.topology import Chip
from tests.fit.programs import entry

# 1 MB/s, so that a byte takes a microsecond, and so does a cycle.
SLOW = Chip("slow", 1 << 30, 1e6, 1e6, 1e9, 8)
# Moves 8 KiB in 2,000 cycles; then moves nothing in 9,000.
TWO_KERNELS = entry("""
    %x = f32[8,128]{1,0:T(8,128)} parameter(0)
    %y = f32[8,128]{1,0:T(8,128)S(1)} copy(%x), \
backend_config={"window_config":{"estimated_cycles":"2000"}}
    %z = f32[8,128]{1,0:T(8,128)S(1)} negate(%y), \
backend_config={"window_config":{"estimated_cycles":"9000"}}
    ROOT %r = f32[8,128]{1,0:T(8,128)} copy(%z), \
backend_config={"window_config":{"estimated_cycles":"2000"}}
""")
COMPILED = Compiled(
    slots=26,
    steps=2,
    prefill_tokens=130,
    decode_flops=400,
    prefill_flops=800,
    weights_bytes=1500,
    decode_weights_bytes=1000,
    state_bytes=24,
    prefill_buffer_bytes=12,
    programs={
        "decode": CompiledProgram(1.0, text=TWO_KERNELS),
        "prefill": CompiledProgram(1.0, text=TWO_KERNELS),
    },
)


def test_a_step_is_a_blocks_cost_over_its_steps() -> None:
    cost = decode_cost(COMPILED, SLOW)

    assert cost.hbm_bytes_per_step == 8192 // 2
    assert cost.compiler_cycles_per_step == 13_000 // 2
    assert cost.minimum_hbm_bytes_per_step == 1024


def test_the_longer_of_memory_and_computing_is_the_bound() -> None:
    assert decode_cost(COMPILED, SLOW).limited_by == "compute"
    assert decode_cost(COMPILED, SLOW).tokens_per_second_bound == 26 / 6.5e-3
    assert prefill_cost(COMPILED, SLOW).tokens_per_second_bound == 130 / 13e-3


def test_no_kernel_beats_the_peak() -> None:
    quick = replace(COMPILED, decode_flops=20_000_000)

    assert decode_cost(quick, SLOW).tokens_per_second_bound == 26 / 20e-3


def test_the_peak_is_twice_as_high_in_int8() -> None:
    quick = replace(COMPILED, decode_flops=20_000_000, decode_int8_flops=12_000_000)

    assert decode_cost(quick, SLOW).tokens_per_second_bound == pytest.approx(26 / 14e-3, rel=1e-4)


def test_figures_are_of_one_chip() -> None:
    cost = decode_cost(replace(COMPILED, mesh=(2, 1)), SLOW)

    assert cost.flops_per_step == 200
    assert cost.tokens_per_second_bound == 13 / 6.5e-3


def test_apart_each_kernel_takes_the_longer_of_its_own_two() -> None:
    seconds = (4096e-6 + 9000e-6 + 4096e-6) / 2

    assert serial_bound(COMPILED, SLOW) == 26 / seconds


def test_a_step_with_grammars_is_two_programs_one_after_the_other() -> None:
    both = {name: CompiledProgram(1.0, text=TWO_KERNELS) for name in ("forward", "draw")}
    cost = structured_cost(
        replace(COMPILED, programs={**COMPILED.programs, **both}, mask_bytes=77), SLOW
    )

    assert (cost.hbm_bytes_per_step, cost.compiler_cycles_per_step) == (2 * 8192, 26_000)
    assert cost.upload_bytes_per_step == 77
    assert cost.tokens_per_second_bound == 26 / 26e-3
    assert cost.times_decode == 4
