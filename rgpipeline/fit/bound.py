"""What a step costs and how fast it can be at best, from the compiled programs."""

from dataclasses import dataclass

from rgpipeline.fit.chips import Chip
from rgpipeline.fit.compiled import Compiled
from rgpipeline.fit.parts import Part, parts
from rgpipeline.fit.program import program_cost, program_runs
from rgpipeline.fit.report import DecodeCost, PrefillCost


@dataclass(frozen=True, slots=True)
class Bound:
    """The time of one step or call, at the least: what takes longer of the two decides."""

    hbm_s: float
    compute_s: float

    @property
    def seconds(self) -> float:
        return max(self.hbm_s, self.compute_s)

    @property
    def limited_by(self) -> str:
        return "hbm" if self.hbm_s >= self.compute_s else "compute"


def decode_cost(compiled: Compiled, chip: Chip, chips: int) -> DecodeCost:
    """One step of the decode block on one chip: the whole block's cost over its steps."""
    program, steps = compiled.programs["decode"], compiled.steps
    cost = program_cost(program.module, program.kernels)
    moved, cycles = cost.traffic.total // steps, cost.cycles // steps
    flops = compiled.decode_flops // chips
    bound = _bound(chip, moved, cycles, flops, compiled.decode_int8_flops // chips)
    return DecodeCost(
        hbm_bytes_per_step=moved,
        minimum_hbm_bytes_per_step=compiled.decode_weights_bytes + compiled.state_bytes,
        flops_per_step=flops,
        compiler_cycles_per_step=cycles,
        collectives={name: count // steps for name, count in sorted(cost.collectives.items())},
        tokens_per_second_bound=round(compiled.slots / bound.seconds / chips, 1),
        limited_by=bound.limited_by,
    )


def prefill_cost(compiled: Compiled, chip: Chip, chips: int) -> PrefillCost:
    """One call of the prefill program with the longest chunk, on one chip."""
    program = compiled.programs["prefill"]
    cost = program_cost(program.module, program.kernels)
    flops = compiled.prefill_flops // chips
    int8_flops = compiled.prefill_int8_flops // chips
    bound = _bound(chip, cost.traffic.total, cost.cycles, flops, int8_flops)
    return PrefillCost(
        hbm_bytes_per_chunk=cost.traffic.total,
        flops_per_chunk=flops,
        compiler_cycles_per_chunk=cost.cycles,
        tokens_per_second_bound=round(compiled.prefill_tokens / bound.seconds / chips, 1),
        limited_by=bound.limited_by,
    )


def decode_apart(compiled: Compiled, chip: Chip, chips: int) -> float:
    """Tokens per second if kernels hid nothing of each other: a chip runs one after the other.

    Each takes the longer of its own memory traffic and its own cycles; only the asynchronous
    copies, which the compiler has already placed beside them, go on meanwhile.
    """
    program = compiled.programs["decode"]
    runs = program_runs(program.module, program.kernels)
    moved = sum(run.cost.traffic.total * run.times for run in runs)
    apart = sum(
        run.times * _bound(chip, run.cost.traffic.total, run.cost.cycles).seconds
        for run in runs
        if not run.instruction.opcode.endswith("-start")
    )
    seconds = max(apart, moved / chip.hbm_bytes_per_s) / compiled.steps
    return compiled.slots / seconds / chips


def program_parts(compiled: Compiled, name: str) -> list[Part]:
    """Where a program's bytes and cycles go, by the part of the model; per step in a block."""
    program = compiled.programs[name]
    steps = compiled.steps if name == "decode" else 1
    return parts(program_runs(program.module, program.kernels), steps)


def uncounted(compiled: Compiled) -> tuple[str, ...]:
    """What is missing in the cycles, one sentence for each program."""
    notes = []
    for name in ("decode", "prefill"):
        program = compiled.programs[name]
        if program.out_of_memory is None:
            calls = program_cost(program.module, program.kernels).uncounted
            notes += [f"{name}: {calls} calls of kernels take cycles nobody counted"] * bool(calls)
    return tuple(notes)


def _bound(chip: Chip, moved: int, cycles: int, flops: int = 0, int8_flops: int = 0) -> Bound:
    # Bundles know nothing of a matrix unit that is still busy: no kernel beats the peak, which is
    # twice as high for those of the operations that are of int8.
    computing = max(cycles / chip.clock_hz, (flops - int8_flops / 2) / chip.flops_per_s)
    return Bound(moved / chip.hbm_bytes_per_s, computing)
