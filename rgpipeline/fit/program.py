"""What a whole program costs: its instructions, each as often as the loops around it turn."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from rgpipeline.fit.hlo import Computation, Instruction, Module
from rgpipeline.fit.traffic import Traffic, instruction_traffic

_COLLECTIVES = {
    "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute",
    "collective-broadcast", "ragged-all-to-all",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cost:
    """A program's cost when it runs once."""

    traffic: Traffic = field(default_factory=Traffic)
    cycles: int = 0  # the compiler's estimates; kernels are not in it
    collectives: Counter[str] = field(default_factory=Counter)
    kernels: Counter[str] = field(default_factory=Counter)  # Pallas kernels: name to calls

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.traffic + other.traffic,
            self.cycles + other.cycles,
            self.collectives + other.collectives,
            self.kernels + other.kernels,
        )

    def times(self, count: int) -> "Cost":
        return Cost(
            self.traffic.times(count),
            self.cycles * count,
            Counter({name: n * count for name, n in self.collectives.items()}),
            Counter({name: n * count for name, n in self.kernels.items()}),
        )


def program_cost(module: Module) -> Cost:
    """The cost of one run: loops by their turns, a conditional by its dearest branch."""
    return _computation(module, module.entry)


def costs(module: Module) -> list[tuple[Instruction, int, Cost]]:
    """Every instruction that runs, how often, and its cost each time."""
    return list(_walk(module, module.entry, 1))


def _computation(module: Module, computation: Computation) -> Cost:
    total = Cost()
    for _, times, cost in _walk(module, computation, 1):
        total = total + cost.times(times)
    return total


def _walk(
    module: Module, computation: Computation, times: int
) -> Iterator[tuple[Instruction, int, Cost]]:
    for one in computation.instructions:
        if one.opcode == "while":
            turns = times * module.trip_count(one)
            yield from _walk(module, _called(module, one, "body"), turns)
            yield from _walk(module, _called(module, one, "condition"), turns)
        elif one.opcode == "conditional":
            yield from _walk(module, _dearest(module, one), times)
        elif one.opcode == "call":
            yield from _walk(module, _called(module, one, "to_apply"), times)
        else:
            yield one, times, _instruction(module, computation, one)


def _instruction(module: Module, inside: Computation, one: Instruction) -> Cost:
    cycles = one.backend_config.get("window_config", {}).get("estimated_cycles", 0)
    collective = one.opcode.removesuffix("-start")
    is_kernel = one.attribute("custom_call_target") == "tpu_custom_call"
    return Cost(
        traffic=instruction_traffic(module, inside, one),
        cycles=int(cycles),
        collectives=Counter({collective: 1} if collective in _COLLECTIVES else {}),
        kernels=Counter({one.name.rstrip("0123456789."): 1} if is_kernel else {}),
    )


def _dearest(module: Module, conditional: Instruction) -> Computation:
    listed = conditional.attribute("branch_computations")
    if listed is not None:
        names = [name.strip(" %") for name in listed.strip("{}").split(",")]
    else:
        names = [
            conditional.called("true_computation") or "",
            conditional.called("false_computation") or "",
        ]
    branches = [module.computations[name] for name in names]
    return max(branches, key=lambda one: _weight(_computation(module, one)))


def _weight(cost: Cost) -> tuple[int, int]:
    return cost.traffic.total, cost.cycles


def _called(module: Module, one: Instruction, attribute: str) -> Computation:
    return module.computations[one.called(attribute) or ""]
