"""Turns of a loop that jump over a part of it.

A kernel's grid becomes a loop that is two turns longer than the grid: a turn brings in the blocks
of one step, computes the step before it, and takes out the one before that. So its first turn and
its last have nothing to compute, and jump over it:

    0x3 LB: > { %s1 = sphi ... /* iteration index, stage = 0 */ ... }
    0x4   : > { %p1 = scmp.ge.s32.totalorder %s1, 1  ;;  %p2 = scmp.lt.s32.totalorder %s1, 9 }
    0x5   : > { %p3 = pnand %p1, %p2 }
    0x6   : > { %6 = sbr.rel (%p3) target = $region24 }        runs in turns 1 to 8 of 0 to 9

Only what follows from the index and constants is known; other jumps are taken not to happen.
"""

import operator
import re
from collections.abc import Sequence
from typing import NamedTuple

_INDEX = re.compile(r"%(s\w+) = sphi [^;}]*?/\*[^*]*\biteration index, stage = 0\b")
_LATER = re.compile(r"%(s\w+) = sadd\.s32 (\d+), %(s\w+)")
_COMPARED = re.compile(r"%(p\w+) = scmp\.(\w\w)\.s32\.totalorder %(s\w+), (\d+)\b")
_BOTH = re.compile(r"%(p\w+) = (pnand|pand|por) %(p\w+), %(p\w+)")
_JUMP = re.compile(r"sbr\.rel \((!?)%(\w+)\) target = \$region(\d+)")
_TARGET = re.compile(r"Start(?:/End empty)? region (\d+)")

DELAY = 4  # bundles after a branch that run before it takes effect

_COMPARE = {
    "ge": operator.ge, "gt": operator.gt, "le": operator.le, "lt": operator.lt,
    "eq": operator.eq, "ne": operator.ne,
}  # fmt: skip

Turns = frozenset[int]


class Jump(NamedTuple):
    """Bundles `first` to `last`, and the turns in which they do not run."""

    first: int
    last: int
    turns: Turns


def jumps(body: Sequence[str], turns: int) -> list[Jump]:
    """The jumps forwards in a loop's bundles, which it runs `turns` times."""
    targets = {region: at for at, one in enumerate(body) for region in _TARGET.findall(one)}
    values = _Values(turns)
    found = []
    for at, bundle in enumerate(body):
        values.read(bundle)
        for negated, predicate, region in _JUMP.findall(bundle):
            taken = values.true.get(predicate)
            if taken is not None and targets.get(region, 0) > at:
                jumped = values.all - taken if negated else taken
                found.append(Jump(at + DELAY + 1, targets[region] - 1, jumped))
    return found


class _Values:
    """What is known of a loop's registers: an index's distance from the turn, a predicate's turns.

    A bundle's instructions read what stood there before it, but no name is ever given twice.
    """

    def __init__(self, turns: int) -> None:
        self.all: Turns = frozenset(range(turns))
        self.true: dict[str, Turns] = {}
        self._ahead: dict[str, int] = {}

    def read(self, bundle: str) -> None:
        """Takes in what a bundle computes."""
        self._ahead |= dict.fromkeys(_INDEX.findall(bundle), 0)
        for name, number, index in _LATER.findall(bundle):
            if index in self._ahead:
                self._ahead[name] = self._ahead[index] + _signed(int(number))
        for name, comparison, index, number in _COMPARED.findall(bundle):
            if index in self._ahead and comparison in _COMPARE:
                holds, ahead = _COMPARE[comparison], self._ahead[index]
                self.true[name] = frozenset(i for i in self.all if holds(i + ahead, int(number)))
        for name, how, left, right in _BOTH.findall(bundle):
            if left in self.true and right in self.true:
                self.true[name] = self._combined(how, self.true[left], self.true[right])

    def _combined(self, how: str, left: Turns, right: Turns) -> Turns:
        if how == "por":
            return left | right
        return left & right if how == "pand" else self.all - (left & right)


def _signed(number: int) -> int:
    return number - (1 << 32) if number >> 31 else number
