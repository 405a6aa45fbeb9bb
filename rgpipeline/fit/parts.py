"""Where a program's bytes and cycles go, by the part of the model that asked for them."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from rgpipeline.fit.program import Run

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
