"""Cycles of a kernel, counted in the VLIW code that libtpu schedules for it.

The scheduled HLO does not show the inside of a Pallas kernel, or how long a scatter takes. But
libtpu can write the final code of each kernel, one line for every bundle, and a bundle takes one
cycle. A loop is a branch backwards; the constant it runs to is the number of its turns:

    0x9 LB: > { ... }                                          /* Start region 462 */
    0xa   : > { ... %p42 = scmp.ge.s32.totalorder %s45, 16 }
    0xb   : > { sbr.rel (!%p42) target = $region462 }          and four bundles more

Some turns jump over a part of the loop. A kernel's grid becomes a loop that is two turns longer
than the grid: a turn loads the blocks of one step, computes the step before it, and stores the one
before that. So the first turn and the last have nothing to compute, and jump over it:

    0x3 LB: > { %s1 = sphi ... /* iteration index, stage = 0 */ ... }
    0x4   : > { %p1 = scmp.ge.s32.totalorder %s1, 1  ;;  %p2 = scmp.lt.s32.totalorder %s1, 9 }
    0x5   : > { %p3 = pnand %p1, %p2 }
    0x6   : > { %6 = sbr.rel (%p3) target = $region24 }        runs in turns 1 to 8 of 0 to 9

Only jumps that follow from the index and constants are known. Other jumps count as not taken, so
the count is that of the longest path.
"""

import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_GRANULE = 32  # bytes
_DELAY = 4  # bundles after a branch that run before it takes effect

_FILE = re.compile(r"^\d+-(.+)-\d+-final_bundles\.txt$")
_SAME = re.compile(r"^\d+-TLP-\d+-deduplication-map\.txt$")

_BUNDLE = re.compile(r"^\s*(?:0x[0-9a-f]+|0)\s+(?:[A-Z]{2})?\s*:[\s>]*\{")
_START = re.compile(r"Start region (\d+)")
_TARGET = re.compile(r"Start(?:/End empty)? region (\d+)")
_BRANCH = re.compile(r"sbr\.rel (?:\(!?%(\w+)\) )?target = \$region(\d+)")
_JUMP = re.compile(r"sbr\.rel \((!?)%(\w+)\) target = \$region(\d+)")
_EXIT = re.compile(r"%(p\w+) = scmp\.(?:ge|eq)\.s32\.totalorder %\w+, (\d+)\b")
_DMA = re.compile(r"dma\.(\w+)_to_(\w+)[^;]*?/\*size_in_granules=\*/(\d+)")
_INDEX = re.compile(r"%(s\w+) = sphi [^;}]*?/\*[^*]*\biteration index, stage = 0\b")
_SUM = re.compile(r"%(s\w+) = sadd\.s32 (\d+), %(s\w+)")
_COMPARISON = re.compile(r"%(p\w+) = scmp\.(\w\w)\.s32\.totalorder %(s\w+), (\d+)\b")
_BOTH = re.compile(r"%(p\w+) = (pnand|pand|por) %(p\w+), %(p\w+)")
_COMPARE = {
    "ge": operator.ge, "gt": operator.gt, "le": operator.le, "lt": operator.lt,
    "eq": operator.eq, "ne": operator.ne,
}  # fmt: skip

Turns = frozenset[int]


@dataclass(frozen=True, slots=True)
class KernelCode:
    """What the code of one kernel says about one call."""

    cycles: int
    hbm_written: int  # bytes that its own copies move to HBM
    unknown_loops: int = 0  # loops whose turns are decided at run time, counted as one turn


class _Loop(NamedTuple):
    first: int
    last: int
    turns: int | None


class _Jump(NamedTuple):
    """Bundles `first` to `last`, and the turns in which they do not run."""

    first: int
    last: int
    turns: Turns


def read_kernel(text: str) -> KernelCode:
    """Counts a `final_bundles` file."""
    bundles = list(_bundles(text))
    loops = _loops(bundles)
    times = [1] * len(bundles)
    for loop in loops:
        body = bundles[loop.first : loop.last + 1]
        for at, turns in enumerate(_turns(body, loop.turns), loop.first):
            times[at] *= turns
    written = sum(
        int(size) * _GRANULE * count
        for bundle, count in zip(bundles, times, strict=True)
        for _, to, size in _DMA.findall(bundle)
        if to == "hbm"
    )
    return KernelCode(sum(times), written, sum(loop.turns is None for loop in loops))


def kernel_files(folder: Path) -> Mapping[str, Path]:
    """The code of each HLO instruction; identical instructions share one kernel."""
    files = {
        match[1]: path for path in sorted(folder.iterdir()) if (match := _FILE.match(path.name))
    }
    for path in folder.iterdir():
        if _SAME.match(path.name):
            for name, others in _groups(path.read_text()):
                if name in files:
                    files |= dict.fromkeys(others, files[name])
    return files


def _groups(text: str) -> Iterator[tuple[str, list[str]]]:
    for block in text.split("key:")[1:]:
        lines = block.splitlines()
        yield lines[0], [line.strip() for line in lines[1:] if line.startswith("  ")]


def _bundles(text: str) -> Iterator[str]:
    """Each bundle with all its lines: comments may run over several."""
    lines: list[str] = []
    for line in text.splitlines():
        if _BUNDLE.match(line):
            if lines:
                yield "\n".join(lines)
            lines = [line]
        elif lines:
            lines.append(line)
    if lines:
        yield "\n".join(lines)


def _loops(bundles: list[str]) -> list[_Loop]:
    starts: dict[str, int] = {}
    limits: dict[str, int] = {}
    loops = []
    for at, bundle in enumerate(bundles):
        starts |= dict.fromkeys(_START.findall(bundle), at)
        limits |= {name: int(limit) for name, limit in _EXIT.findall(bundle)}
        for predicate, region in _BRANCH.findall(bundle):
            if region in starts:
                loops.append(_Loop(starts[region], at + _DELAY, limits.get(predicate)))
    return loops


def _turns(body: list[str], turns: int | None) -> list[int]:
    """How many of a loop's turns run each of its bundles."""
    if turns is None:
        return [1] * len(body)
    skipped: list[set[int]] = [set() for _ in body]
    for jump in _jumps(body, turns):
        for at in range(jump.first, jump.last + 1):
            skipped[at] |= jump.turns
    return [turns - len(those) for those in skipped]


def _jumps(body: Sequence[str], turns: int) -> Iterator[_Jump]:
    """The jumps forwards in a loop's bundles, which it runs `turns` times."""
    targets = {region: at for at, bundle in enumerate(body) for region in _TARGET.findall(bundle)}
    values = _Values(turns)
    for at, bundle in enumerate(body):
        values.read(bundle)
        for negated, predicate, region in _JUMP.findall(bundle):
            taken = values.true.get(predicate)
            if taken is not None and targets.get(region, 0) > at:
                jumped = values.all - taken if negated else taken
                yield _Jump(at + _DELAY + 1, targets[region] - 1, jumped)


class _Values:
    """What is known of a loop's registers: an index as turn plus offset, a predicate's turns.

    A bundle's instructions read the values from before the bundle, but no name is given twice.
    """

    def __init__(self, turns: int) -> None:
        self.all: Turns = frozenset(range(turns))
        self.true: dict[str, Turns] = {}  # predicate: the turns in which it is true
        self._offset: dict[str, int] = {}  # index: its value less the turn's number

    def read(self, bundle: str) -> None:
        """Adds what a bundle computes."""
        self._offset |= dict.fromkeys(_INDEX.findall(bundle), 0)
        for name, number, index in _SUM.findall(bundle):
            if index in self._offset:
                self._offset[name] = self._offset[index] + _signed(int(number))
        for name, comparison, index, number in _COMPARISON.findall(bundle):
            if index in self._offset and comparison in _COMPARE:
                holds, offset = _COMPARE[comparison], self._offset[index]
                self.true[name] = frozenset(i for i in self.all if holds(i + offset, int(number)))
        for name, how, left, right in _BOTH.findall(bundle):
            if left in self.true and right in self.true:
                self.true[name] = self._combined(how, self.true[left], self.true[right])

    def _combined(self, how: str, left: Turns, right: Turns) -> Turns:
        if how == "por":
            return left | right
        return left & right if how == "pand" else self.all - (left & right)


def _signed(number: int) -> int:
    return number - (1 << 32) if number >> 31 else number
