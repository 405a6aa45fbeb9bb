"""Cycles, collectives and kernels of a program."""

from rgpipeline.fit.hlo import parse
from rgpipeline.fit.kernel_code import KernelCode
from rgpipeline.fit.program_cost import program_cost, without_estimate
from tests.fit.programs import entry
from tests.fit.test_hlo import LOOP, TEST, TURN

KERNEL = """
    %ring = bf16[4096,128]{1,0:T(8,128)(2,1)} parameter(0)
    ROOT %attend.3 = bf16[4096,128]{1,0:T(8,128)(2,1)} custom-call(%ring), \
custom_call_target="tpu_custom_call", output_to_operand_aliasing={{}: (0, {})}
"""


def noted(cycles: int) -> str:
    return f'backend_config={{"window_config":{{"estimated_cycles":"{cycles}"}}}}'


def test_cycles_are_the_compilers_notes_times_the_loops_turns() -> None:
    negated = "= f32[1024]{0:T(1024)} negate"
    turn = TURN.replace("%two =", f"%w {negated}(%v), {noted(5)}\n      %two =")
    before = LOOP.replace("%start =", f"%y {negated}(%x), {noted(3)}\n    %start =")

    assert program_cost(parse(entry(before, turn, TEST))).cycles == 3 + 8 * 5


def test_an_asynchronous_collective_counts_once() -> None:
    cost = program_cost(
        parse(
            entry("""
                %x = f32[1024]{0:T(1024)} parameter(0)
                %s = f32[1024]{0:T(1024)} all-reduce-start(%x), to_apply=%add
                %d = f32[1024]{0:T(1024)} all-reduce-done(%s)
                ROOT %g = f32[4096]{0:T(1024)} all-gather(%d), dimensions={0}
            """)
        )
    )

    assert cost.collectives == {"all-reduce": 1, "all-gather": 1}


def test_a_kernel_without_known_code_is_not_passed_over_in_silence() -> None:
    cost = program_cost(parse(entry(KERNEL)))

    assert (cost.cycles, cost.uncounted) == (0, 1)


def test_a_kernel_with_a_loop_that_data_ends_is_told_too() -> None:
    code = KernelCode(cycles=700, hbm_written=0, unknown_loops=1)

    assert program_cost(parse(entry(KERNEL)), {"attend.3": code}).uncounted == 1


def test_a_kernels_cycles_and_what_it_writes_in_place_come_from_its_code() -> None:
    module = parse(entry(KERNEL))
    cost = program_cost(module, {"attend.3": KernelCode(cycles=700, hbm_written=2048)})

    assert without_estimate(module) == {"attend.3"}
    assert (cost.cycles, cost.uncounted) == (700, 0)
    assert (cost.traffic.read, cost.traffic.written) == (4096 * 128 * 2, 2048)
