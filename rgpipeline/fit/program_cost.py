"""The cost of a compiled program: each of its instructions as often as its loops run it."""

import re
from collections import Counter
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

_ORIGIN = re.compile(r'op_name="([^"]*)"')
_MODEL = re.compile(r".*?\bGriffin\.\w+/(?:blocks_\d+\.\w+/)?(?:blocks_\d+\._\w+/)?(.*)")
_METHOD = re.compile(r"\.(?:decode|prefill)$")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run costs, on one chip."""

    traffic: Traffic = field(default_factory=Traffic)
    cycles: int = 0
    collectives: Counter[str] = field(default_factory=Counter)  # opcode: how many
    uncounted: int = 0  # runs of Pallas kernels whose cycles are unknown or incomplete

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.traffic + other.traffic,
            self.cycles + other.cycles,
            self.collectives + other.collectives,
            self.uncounted + other.uncounted,
        )

    def times(self, count: int) -> "Cost":
        """The cost of `count` runs."""
        return Cost(
            self.traffic.times(count),
            self.cycles * count,
            Counter({name: n * count for name, n in self.collectives.items()}),
            self.uncounted * count,
        )


@dataclass(frozen=True, slots=True)
class Run:
    """One instruction of a program: how often it runs, and what it costs each time."""

    instruction: Instruction
    times: int
    cost: Cost


@dataclass(frozen=True, slots=True)
class ComponentCost:
    """The cost of one component of the model, all its layers together."""

    name: str
    hbm_bytes: int
    cycles: int


def program_runs(module: Module, kernels: Kernels | None = None) -> list[Run]:
    """Every instruction that runs, in order; of a conditional, those of its costliest branch.

    Args:
      module: the scheduled program.
      kernels: by instruction, the code of kernels that the compiler gives no estimate for.
    """
    return list(_Walk(module, kernels or {}).runs(module.entry, 1))


def total_cost(runs: Iterable[Run]) -> Cost:
    """The cost of all runs together."""
    return sum((run.cost.times(run.times) for run in runs), Cost())


def program_cost(module: Module, kernels: Kernels | None = None) -> Cost:
    """The cost of running the program once; arguments as for `program_runs`."""
    return total_cost(program_runs(module, kernels))


def without_estimate(module: Module) -> set[str]:
    """Names of the kernels whose cycles the compiler does not estimate."""
    return {
        run.instruction.name
        for run in program_runs(module)
        if run.instruction.opcode in ("fusion", "custom-call") and not _estimate(run.instruction)
    }


def component_costs(runs: Iterable[Run], per: int = 1) -> list[ComponentCost]:
    """Costs by component, those with most cycles first; bytes and cycles divided by `per`."""
    moved: Counter[str] = Counter()
    cycles: Counter[str] = Counter()
    for run in runs:
        name = component_name(run.instruction.attributes)
        moved[name] += run.cost.traffic.total * run.times
        cycles[name] += run.cost.cycles * run.times
    found = [ComponentCost(name, moved[name] // per, cycles[name] // per) for name in moved]
    return sorted(
        found, key=lambda component: (component.cycles, component.hbm_bytes), reverse=True
    )


def component_name(attributes: str) -> str:
    """The component of the model that an instruction's metadata names: `temporal/rglru`.

    Instructions that the compiler added have no origin; most of them copy into VMEM.
    """
    origin = _ORIGIN.search(attributes)
    if origin is None:
        return "copies"
    inside = _MODEL.match(origin[1])
    if inside is None:
        return "sampling and bookkeeping"
    return "/".join(_METHOD.sub("", piece) for piece in inside[1].split("/")[:2])


@dataclass(frozen=True, slots=True)
class _Walk:
    module: Module
    kernels: Kernels

    def runs(self, computation: Computation, times: int) -> Iterator[Run]:
        for instruction in computation.instructions:
            if instruction.opcode == "while":
                turns = times * self.module.trip_count(instruction)
                yield from self.runs(self._called(instruction, "body"), turns)
                yield from self.runs(self._called(instruction, "condition"), turns)
            elif instruction.opcode == "conditional":
                yield from self.runs(self._max_cost_branch(instruction), times)
            elif instruction.opcode == "call":
                yield from self.runs(self._called(instruction, "to_apply"), times)
            else:
                yield Run(instruction, times, self._cost(computation, instruction))

    def _cost(self, inside: Computation, instruction: Instruction) -> Cost:
        kernel = self.kernels.get(instruction.name)
        estimate = _estimate(instruction)
        if estimate is None and kernel is not None:
            estimate = kernel.cycles
        traffic = instruction_traffic(self.module, inside, instruction)
        if kernel is not None and "output_to_operand_aliasing" in instruction.attributes:
            # What the kernel writes beyond its new results goes into memory of its operands.
            traffic = traffic + Traffic(0, max(0, kernel.hbm_written - traffic.written))
        known = estimate is not None and not (kernel and kernel.unknown_loops)
        return Cost(
            traffic=traffic,
            cycles=estimate or 0,
            collectives=Counter(self._collectives(instruction)),
            uncounted=int(_is_pallas(instruction) and not known),
        )

    def _collectives(self, instruction: Instruction) -> list[str]:
        if instruction.opcode == "async-start":
            instruction = self._called(instruction, "calls").root
        opcode = instruction.opcode.removesuffix("-start")
        return [opcode] if opcode in COLLECTIVES else []

    def _max_cost_branch(self, conditional: Instruction) -> Computation:
        listed = conditional.attribute("branch_computations")
        if listed is not None:
            names = [name.strip(" %") for name in listed.strip("{}").split(",")]
        else:
            branches = ("true_computation", "false_computation")
            names = [conditional.called(branch) or "" for branch in branches]

        def weight(branch: Computation) -> tuple[int, int]:
            cost = total_cost(self.runs(branch, 1))
            return cost.traffic.total, cost.cycles

        return max((self.module.computations[name] for name in names), key=weight)

    def _called(self, instruction: Instruction, attribute: str) -> Computation:
        return self.module.computations[instruction.called(attribute) or ""]


def _estimate(instruction: Instruction) -> int | None:
    """The compiler's own estimate of an instruction's cycles."""
    cycles = instruction.backend_config.get("window_config", {}).get("estimated_cycles")
    return None if cycles is None else int(cycles)


def _is_pallas(instruction: Instruction) -> bool:
    return instruction.attribute("custom_call_target") == "tpu_custom_call"
