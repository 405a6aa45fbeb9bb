"""What a step costs and how fast it can be at best, from the compiled programs."""

import re
from dataclasses import dataclass

from rgpipeline.fit.compilation import Compiled, CompiledProgram
from rgpipeline.fit.fit_report import DecodeCost, HbmBytes, PrefillCost
from rgpipeline.fit.program_cost import Part, parts, program_cost, program_runs
from rgpipeline.fit.topology import Chip


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


_REQUIRED = re.compile(r"\((\d+(?:\.\d+)?)([KMGT])\) exceeds available HBM")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def hbm_bytes(compiled: Compiled, chip: Chip) -> HbmBytes:
    """What a chip has to hold: weights and state always, temporaries of one program at a time."""
    programs = compiled.programs.values()
    weights, state = compiled.weights_bytes, _state(compiled)
    temporary = max(_temporary(program, weights + state) for program in programs)
    temporary += sum(program.code_bytes for program in programs)
    return HbmBytes(
        weights=weights,
        state=state,
        temporary=temporary,
        total=weights + state + temporary,
        capacity=chip.hbm_bytes,
    )


def fits(compiled: Compiled, chip: Chip) -> bool:
    """Whether every program compiles, and all that a worker holds at once is within the chip."""
    refused = any(program.out_of_memory for program in compiled.programs.values())
    return not refused and hbm_bytes(compiled, chip).total <= chip.hbm_bytes


def _state(compiled: Compiled) -> int:
    """Bytes of slots and stage; of slots as they lie in memory, padding of their tiles included.

    The decode program's arguments are weights and the slots' state, and nothing else.
    """
    decode = compiled.programs.get("decode")
    held = 0 if decode is None else decode.argument_bytes - compiled.weights_bytes
    return max(compiled.state_bytes, held) + compiled.stage_bytes


def _temporary(program: CompiledProgram, held: int) -> int:
    if program.out_of_memory is None:
        return program.temporary_bytes + program.output_bytes - program.alias_bytes
    required = _REQUIRED.search(program.out_of_memory)
    if required is None:
        return 0
    return max(0, round(float(required[1]) * _UNITS[required[2]]) - held)
