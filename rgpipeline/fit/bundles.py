"""Cycles of a kernel, counted in the VLIW code that libtpu schedules for it.

The scheduled HLO says nothing of what is inside a Pallas kernel, or how long a scatter takes. But
libtpu can be made to write each kernel's final code, one line for every bundle, and a bundle takes
a cycle. Loops are seen by their branch backwards and counted by the constant they run to:

    0x9 LB: > { ... }                                          /* Start region 462 */
    0xa   : > { ... %p42 = scmp.ge.s32.totalorder %s45, 16 }
    0xb   : > { sbr.rel (!%p42) target = $region462 }          and four bundles more

Of what is jumped over, only that counts as not run which every run jumps over (see `jumps`): the
count is of the longest way.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rgpipeline.fit.jumps import DELAY, jumps

_BUNDLE = re.compile(r"^\s*(?:0x[0-9a-f]+|0)\s+(?:[A-Z]{2})?\s*:[\s>]*\{")
_START = re.compile(r"Start region (\d+)")
_BRANCH = re.compile(r"sbr\.rel (?:\(!?%(\w+)\) )?target = \$region(\d+)")
_TEST = re.compile(r"%(p\w+) = scmp\.(?:ge|eq)\.s32\.totalorder %\w+, (\d+)\b")
_DMA = re.compile(r"dma\.(\w+)_to_(\w+)[^;]*?/\*size_in_granules=\*/(\d+)")
_GRANULE = 32  # bytes

_NAME = re.compile(r"^\d+-(.+)-\d+-final_bundles\.txt$")
_SAME = re.compile(r"^\d+-TLP-\d+-deduplication-map\.txt$")


@dataclass(frozen=True, slots=True)
class KernelCode:
    """What the code of one kernel says of one call."""

    cycles: int
    hbm_written: int  # bytes that its own copies move to HBM
    unknown_loops: int = 0  # loops whose turns are decided when it runs, counted as one


@dataclass(frozen=True, slots=True)
class _Loop:
    first: int
    last: int
    turns: int | None


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
    """The code of each HLO instruction; instructions that do the same share one kernel."""
    files = {
        match[1]: path for path in sorted(folder.iterdir()) if (match := _NAME.match(path.name))
    }
    for path in folder.iterdir():
        if _SAME.match(path.name):
            for name, others in _groups(path.read_text()):
                if name in files:
                    files |= dict.fromkeys(others, files[name])
    return files


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
    tests: dict[str, int] = {}
    loops = []
    for at, bundle in enumerate(bundles):
        starts |= dict.fromkeys(_START.findall(bundle), at)
        tests |= {name: int(limit) for name, limit in _TEST.findall(bundle)}
        for predicate, region in _BRANCH.findall(bundle):
            if region in starts:
                loops.append(_Loop(starts[region], at + DELAY, tests.get(predicate)))
    return loops


def _turns(body: list[str], turns: int | None) -> list[int]:
    """How many of a loop's turns run each of its bundles."""
    if turns is None:
        return [1] * len(body)
    idle: list[set[int]] = [set() for _ in body]
    for jump in jumps(body, turns):
        for at in range(jump.first, jump.last + 1):
            idle[at] |= jump.turns
    return [turns - len(those) for those in idle]


def _groups(text: str) -> Iterator[tuple[str, list[str]]]:
    for block in text.split("key:")[1:]:
        lines = block.splitlines()
        yield lines[0], [line.strip() for line in lines[1:] if line.startswith("  ")]
