"""What a whole program costs: its instructions, each as often as the loops around it turn."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from rgpipeline.fit.hlo import Computation, Instruction, Module
from rgpipeline.fit.kernel_code import KernelCode
from rgpipeline.fit.traffic import Traffic, instruction_traffic

COLLECTIVES = {
    "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute",
    "collective-broadcast", "ragged-all-to-all",
}  # fmt: skip

Kernels = Mapping[str, KernelCode]


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run costs, on one chip."""

    traffic: Traffic = field(default_factory=Traffic)
    cycles: int = 0
    collectives: Counter[str] = field(default_factory=Counter)  # opcode: how many
    collective_bytes: int = 0  # results of all of them
    uncounted: int = 0  # runs of Pallas kernels whose cycles are not known, or not all

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.traffic + other.traffic,
            self.cycles + other.cycles,
            self.collectives + other.collectives,
            self.collective_bytes + other.collective_bytes,
            self.uncounted + other.uncounted,
        )

    def times(self, count: int) -> "Cost":
        """The cost of `count` runs."""
        return Cost(
            self.traffic.times(count),
            self.cycles * count,
            Counter({name: n * count for name, n in self.collectives.items()}),
            self.collective_bytes * count,
            self.uncounted * count,
        )


@dataclass(frozen=True, slots=True)
class Run:
    """One instruction of a program: how often it runs, and what it costs each time."""

    instruction: Instruction
    times: int
    cost: Cost


def program_cost(module: Module, kernels: Kernels | None = None) -> Cost:
    """The cost of one run: loops by their turns, a conditional by its dearest branch.

    Args:
      module: the scheduled program.
      kernels: by instruction, the code of kernels that the compiler gives no estimate for.
    """
    return _Walk(module, kernels or {}).total(module.entry)


def program_runs(module: Module, kernels: Kernels | None = None) -> list[Run]:
    """Every instruction that runs, in order; arguments as for `program_cost`."""
    return list(_Walk(module, kernels or {}).runs(module.entry, 1))


def without_estimate(module: Module) -> set[str]:
    """Instructions that run for some time, of which the compiler does not say how long."""
    return {
        run.instruction.name
        for run in program_runs(module)
        if run.instruction.opcode in ("fusion", "custom-call") and not _estimate(run.instruction)
    }


@dataclass(frozen=True, slots=True)
class _Walk:
    module: Module
    kernels: Kernels

    def total(self, computation: Computation) -> Cost:
        total = Cost()
        for run in self.runs(computation, 1):
            total = total + run.cost.times(run.times)
        return total

    def runs(self, computation: Computation, times: int) -> Iterator[Run]:
        for one in computation.instructions:
            if one.opcode == "while":
                turns = times * self.module.trip_count(one)
                yield from self.runs(self._called(one, "body"), turns)
                yield from self.runs(self._called(one, "condition"), turns)
            elif one.opcode == "conditional":
                yield from self.runs(self._dearest(one), times)
            elif one.opcode == "call":
                yield from self.runs(self._called(one, "to_apply"), times)
            else:
                yield Run(one, times, self._cost(computation, one))

    def _cost(self, inside: Computation, one: Instruction) -> Cost:
        kernel = self.kernels.get(one.name)
        estimate = _estimate(one)
        if estimate is None and kernel is not None:
            estimate = kernel.cycles
        traffic = instruction_traffic(self.module, inside, one)
        if kernel is not None and "output_to_operand_aliasing" in one.attributes:
            traffic = traffic + Traffic(0, _in_place(kernel, traffic))
        known = estimate is not None and not (kernel and kernel.unknown_loops)
        collective = self._collective(one)
        return Cost(
            traffic=traffic,
            cycles=estimate or 0,
            collectives=Counter([collective] if collective else []),
            collective_bytes=one.shape.bytes if collective else 0,
            uncounted=int(_is_pallas(one) and not known),
        )

    def _collective(self, one: Instruction) -> str | None:
        if one.opcode == "async-start":
            one = self._called(one, "calls").root
        opcode = one.opcode.removesuffix("-start")
        return opcode if opcode in COLLECTIVES else None

    def _dearest(self, conditional: Instruction) -> Computation:
        listed = conditional.attribute("branch_computations")
        if listed is not None:
            names = [name.strip(" %") for name in listed.strip("{}").split(",")]
        else:
            branches = ("true_computation", "false_computation")
            names = [conditional.called(branch) or "" for branch in branches]

        def weight(name: str) -> tuple[int, int]:
            cost = self.total(self.module.computations[name])
            return cost.traffic.total, cost.cycles

        return self.module.computations[max(names, key=weight)]

    def _called(self, one: Instruction, attribute: str) -> Computation:
        return self.module.computations[one.called(attribute) or ""]


def _estimate(one: Instruction) -> int | None:
    """The compiler's own estimate of an instruction's cycles."""
    cycles = one.backend_config.get("window_config", {}).get("estimated_cycles")
    return None if cycles is None else int(cycles)


def _is_pallas(one: Instruction) -> bool:
    return one.attribute("custom_call_target") == "tpu_custom_call"


def _in_place(kernel: KernelCode, traffic: Traffic) -> int:
    """What a kernel writes into operands' own memory: all it writes, less its new results."""
    return max(0, kernel.hbm_written - traffic.written)


_ORIGIN = re.compile(r'op_name="([^"]*)"')
_MODEL = re.compile(r".*?\bGriffin\.\w+/(?:blocks_\d+\.\w+/)?(?:blocks_\d+\._\w+/)?(.*)")
_METHOD = re.compile(r"\.(?:decode|prefill)$")


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the model, all its layers together."""

    name: str
    hbm_bytes: int
    cycles: int


def parts(runs: Iterable[Run], per: int = 1) -> list[Part]:
    """The parts, those with most cycles first; bytes and cycles divided by `per`."""
    moved: dict[str, int] = defaultdict(int)
    cycles: dict[str, int] = defaultdict(int)
    for run in runs:
        name = part_name(run.instruction.attributes)
        moved[name] += run.cost.traffic.total * run.times
        cycles[name] += run.cost.cycles * run.times
    found = [Part(name, moved[name] // per, cycles[name] // per) for name in moved]
    return sorted(found, key=lambda part: (part.cycles, part.hbm_bytes), reverse=True)


def part_name(attributes: str) -> str:
    """`temporal/decode_attention`, the part of the model that an instruction's metadata names.

    What the compiler added has no origin: those are copies, into VMEM for the most part.
    """
    origin = _ORIGIN.search(attributes)
    if origin is None:
        return "copies"
    inside = _MODEL.match(origin[1])
    if inside is None:
        return "sampling and bookkeeping"
    return "/".join(_METHOD.sub("", piece) for piece in inside[1].split("/")[:2])
