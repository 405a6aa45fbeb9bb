"""How many steps one call to the device takes, found by timing the first of a worker's own.

A call costs something beside its steps: its dispatch, and what of the host's work isn't hidden
behind the device's. On the other hand a slot whose sequence has ended idles until its block does,
for half a block on the average, and for a block more where only the host can tell (a stop string).
So with s seconds a step and c a call, a sequence of n tokens takes about

    n s  +  n c / k  +  k s        with k steps a call, least at  k = sqrt(n c / s)

One program runs any number of steps, and a row's bits don't depend on the number; so what a clock
says may decide it, and nothing is compiled for it.
"""

import logging
import math
import time
from collections.abc import Callable

# Steps of the blocks that are timed, one number after the other, and how many of each: the line
# through the quickest of both is the time of a step and of a call. The quickest, because a call may
# take a hundredth of a step, and what else a machine does takes more. Short ones, because what is
# wanted is the part of a block that isn't steps: of a long one, less than what steps differ by.
_TRIED = (1, 4)
_TIMED = 7
_BLOCKS = 64  # to try in; where prompts are read all the time, there is nothing to time
_UNTIMED = 4  # steps, then
MOST = 16

# Blocks between prefill calls while the number is searched: the last of so many can be timed.
QUIET = 3

# Beside steps that take longer, a call is nothing; and a long block would be long to wait for,
# when a worker must leave.
_SLOW_STEP_S = 0.25

# Tokens of a sequence, where nobody knows them: what `max_tokens` is by default.
TOKENS = 256

_log = logging.getLogger(__name__)


def best_steps(step_s: float, call_s: float, tokens: float = TOKENS) -> int:
    """The power of two of steps, up to `MOST`, with which sequences take least time.

    Args:
      step_s: seconds of one decode step of all slots.
      call_s: seconds that every call takes beside its steps.
      tokens: of a sequence.
    """
    if call_s <= 0:
        return 1
    wanted = math.sqrt(tokens * call_s / max(step_s, 1e-9))
    return 1 << max(0, min(round(math.log2(wanted)), MOST.bit_length() - 1))


class Pace:
    """Steps of the next block: a given number, or tried ones until the best is known."""

    def __init__(self, steps: int | None, clock: Callable[[], float] = time.perf_counter) -> None:
        """`steps`: the number; None to find it."""
        self._found = steps
        self._clock = clock
        self._times: dict[int, list[float]] = {tried: [] for tried in _TRIED}
        self._read = 0  # blocks
        self._last: tuple[int, int, float] | None = None  # steps, work, when: of the last block

    @property
    def searching(self) -> bool:
        """Whether blocks are still timed."""
        return self._found is None

    @property
    def steps(self) -> int:
        """Of the next block."""
        if self._found is not None:
            return self._found
        return next(tried for tried in _TRIED if len(self._times[tried]) < _TIMED)

    def read(self, steps: int, before: int, now: int, tokens: float = TOKENS) -> None:
        """A block has come to the host.

        Its time is that since the one before, if both were alike and the device did nothing else.

        Args:
          steps: of the block.
          before: prefill calls made until it was dispatched.
          now: prefill calls made until now.
          tokens: that a sequence in the block may have, on the average.
        """
        if self._found is not None:
            return
        self._read += 1
        if self._read == _BLOCKS:
            self._found = _UNTIMED
            return
        at, last = self._clock(), self._last
        self._last = (steps, before, at)
        if last is None or (steps, before) != last[:2] or before != now:
            return
        times = self._times[steps]
        times.append(at - last[2])
        if len(times) == _TIMED and min(times) > _SLOW_STEP_S * steps:
            self._found = _TRIED[0]
        elif all(len(times) >= _TIMED for times in self._times.values()):
            self._settle(tokens)

    def _settle(self, tokens: float) -> None:
        few, many = _TRIED
        step_s, call_s = line(few, min(self._times[few]), many, min(self._times[many]))
        self._found = best_steps(step_s, call_s, tokens)
        _log.info(
            "%d steps a call: a step takes %.2f ms, a call %.2f ms beside its steps",
            *(self._found, step_s * 1e3, call_s * 1e3),
        )


def line(few: int, few_s: float, many: int, many_s: float) -> tuple[float, float]:
    """Seconds of a step and of a call, from what two numbers of steps a call take."""
    step_s = max(0.0, (many_s - few_s) / (many - few))
    return step_s, max(0.0, few_s - few * step_s)
