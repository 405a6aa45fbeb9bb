"""What a worker's compiled programs need and cost on one chip, and how fast they run at best."""

import re
from dataclasses import dataclass

from rgpipeline.fit.compilation import Compiled, CompiledProgram
from rgpipeline.fit.fit_report import DecodeCost, HbmBytes, PrefillCost, StructuredCost
from rgpipeline.fit.topology import Chip

# What the compiler says of a program that does not fit.
_REQUIRED = re.compile(r"\((\d+(?:\.\d+)?)([KMGT])\) exceeds available HBM")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True, slots=True)
class Bound:
    """The least time of one step or call: memory and computing overlap, the longer one counts."""

    hbm_s: float
    compute_s: float

    @property
    def seconds(self) -> float:
        return max(self.hbm_s, self.compute_s)

    @property
    def limited_by(self) -> str:
        return "hbm" if self.hbm_s >= self.compute_s else "compute"


def decode_cost(compiled: Compiled, chip: Chip) -> DecodeCost:
    """One step of the decode block on one chip: the cost of the block over its steps."""
    cost, steps, chips = compiled.programs["decode"].cost, compiled.steps, compiled.chips
    moved, cycles = cost.traffic.total // steps, cost.cycles // steps
    flops, bound = compiled.decode_flops // chips, _step_bound(compiled, chip)
    return DecodeCost(
        hbm_bytes_per_step=moved,
        minimum_hbm_bytes_per_step=compiled.decode_weights_bytes + compiled.state_bytes,
        flops_per_step=flops,
        compiler_cycles_per_step=cycles,
        collectives={name: count // steps for name, count in sorted(cost.collectives.items())},
        tokens_per_second_bound=round(compiled.slots / bound.seconds / chips, 1),
        limited_by=bound.limited_by,
    )


def _step_bound(compiled: Compiled, chip: Chip) -> Bound:
    cost, steps, chips = compiled.programs["decode"].cost, compiled.steps, compiled.chips
    flops, int8_flops = compiled.decode_flops // chips, compiled.decode_int8_flops // chips
    return _bound(chip, cost.traffic.total // steps, cost.cycles // steps, flops, int8_flops)


def structured_cost(compiled: Compiled, chip: Chip) -> StructuredCost:
    """A step of two programs, `forward` and `draw`, on one chip."""
    chips = compiled.chips
    costs = [compiled.programs[name].cost for name in ("forward", "draw")]
    apart = sum(_bound(chip, cost.traffic.total, cost.cycles).seconds for cost in costs)
    step = _step_bound(compiled, chip)
    seconds = max(apart, _peak(chip, compiled.decode_flops, compiled.decode_int8_flops) / chips)
    return StructuredCost(
        hbm_bytes_per_step=sum(cost.traffic.total for cost in costs),
        compiler_cycles_per_step=sum(cost.cycles for cost in costs),
        upload_bytes_per_step=compiled.mask_bytes,
        tokens_per_second_bound=round(compiled.slots / seconds / chips, 1),
        times_decode=round(seconds / step.seconds, 3),
    )


def prefill_cost(compiled: Compiled, chip: Chip) -> PrefillCost:
    """One call of the prefill program with the longest chunk, on one chip."""
    cost, chips = compiled.programs["prefill"].cost, compiled.chips
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


def serial_bound(compiled: Compiled, chip: Chip) -> float:
    """Decode tokens per second and chip if its kernels run one after the other, without overlap.

    Each kernel takes the longer of its own memory traffic and its own cycles. Only asynchronous
    copies overlap with kernels, as the compiler scheduled them.
    """
    runs = compiled.programs["decode"].runs
    moved = sum(run.cost.traffic.total * run.times for run in runs)
    kernels = sum(
        run.times * _bound(chip, run.cost.traffic.total, run.cost.cycles).seconds
        for run in runs
        if not run.instruction.opcode.endswith("-start")
    )
    seconds = max(kernels, moved / chip.hbm_bytes_per_s) / compiled.steps
    return compiled.slots / seconds / compiled.chips


def uncounted_kernels(compiled: Compiled) -> tuple[str, ...]:
    """One sentence for each program with kernels whose cycles are not known."""
    notes = []
    for name in ("decode", "prefill", "forward", "draw"):
        program = compiled.programs.get(name)
        if program is None:
            continue
        if program.out_of_memory is None and program.cost.uncounted:
            notes.append(f"{name}: {program.cost.uncounted} calls of kernels are not in the cycles")
    return tuple(notes)


def hbm_bytes(compiled: Compiled, chip: Chip) -> HbmBytes:
    """Memory of one chip: weights and state always, temporaries of one program at a time."""
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
    return not compiled.out_of_memory and hbm_bytes(compiled, chip).total <= chip.hbm_bytes


def _bound(chip: Chip, moved: int, cycles: int, flops: int = 0, int8_flops: int = 0) -> Bound:
    # The cycles of the code do not include waiting for a busy matrix unit, so the peak is a bound
    # of its own. The peak in int8 is twice as high.
    computing = max(cycles / chip.clock_hz, _peak(chip, flops, int8_flops))
    return Bound(moved / chip.hbm_bytes_per_s, computing)


def _peak(chip: Chip, flops: int, int8_flops: int) -> float:
    return (flops - int8_flops / 2) / chip.flops_per_s


def _state(compiled: Compiled) -> int:
    """Bytes of the slots' state and of the prefill buffer.

    The slots' state is counted with the padding of its tiles. The decode program's arguments are
    the weights and this state, and nothing else.
    """
    decode = compiled.programs.get("decode")
    padded = 0 if decode is None else decode.argument_bytes - compiled.weights_bytes
    return max(compiled.state_bytes, padded) + compiled.prefill_buffer_bytes


def _temporary(program: CompiledProgram, weights_and_state: int) -> int:
    if program.out_of_memory is None:
        return program.temporary_bytes + program.output_bytes - program.alias_bytes
    required = _REQUIRED.search(program.out_of_memory)
    if required is None:
        return 0
    return max(0, round(float(required[1]) * _UNITS[required[2]]) - weights_and_state)
