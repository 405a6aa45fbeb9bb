"""How many decode steps one call makes, found by timing a worker's first blocks.

A call takes time beside its steps: its dispatch, and the host's work that does not overlap the
device's. But a slot whose sequence has ended idles until its block ends: half a block on average,
and one block more where only the host can see the end (a stop string). So with s seconds a step and
c seconds a call, a sequence of n tokens takes about

    n s  +  n c / k  +  k s        with k steps a call; the least is at  k = sqrt(n c / s)

One program runs any number of steps, and a row's bits don't depend on the number. So a clock may
choose it, and nothing is compiled for it.
"""

import logging
import math
import time
from collections.abc import Callable

# Numbers of steps that are timed, one after the other, and how many blocks of each. The line
# through the fastest block of either gives the time of a step and of a call. The fastest, because a
# call may take 1 % of a step, and other work on the machine takes more. Small numbers, because the
# time of a call is wanted: in a long block it is less than the steps' noise.
_TIMED_STEPS = (1, 4)
_BLOCKS_OF_EACH = 7
_MAX_BLOCKS = 64  # while prompts are read all the time, no block can be timed; then give up
_UNTIMED_STEPS = 4  # and take this number
MAX_STEPS = 16

# Blocks between prefill calls while blocks are timed: only the last of them can be.
UNDISTURBED_BLOCKS = 3

# Where a step is slower than this, the time of a call does not matter, and a worker that must leave
# would have to wait long for a long block.
_SLOW_STEP_S = 0.25

# Tokens of an unlimited sequence: the default of `max_tokens`.
DEFAULT_TOKENS = 256

_log = logging.getLogger(__name__)


def best_steps(step_s: float, call_s: float, tokens: float = DEFAULT_TOKENS) -> int:
    """The power of two of steps, at most MAX_STEPS, with which sequences take least time.

    Args:
      step_s: seconds of one decode step of all slots.
      call_s: seconds that every call takes beside its steps.
      tokens: of a sequence.
    """
    if call_s <= 0:
        return 1
    wanted = math.sqrt(tokens * call_s / max(step_s, 1e-9))
    return 1 << max(0, min(round(math.log2(wanted)), MAX_STEPS.bit_length() - 1))


class StepTuner:
    """The number of steps of the next block: given, or tried until the best one is known."""

    def __init__(self, steps: int | None, clock: Callable[[], float] = time.perf_counter) -> None:
        """`steps`: the number; None to find it."""
        self._found = steps
        self._clock = clock
        self._times: dict[int, list[float]] = {steps: [] for steps in _TIMED_STEPS}
        self._blocks = 0
        self._last: tuple[int, int, float] | None = None  # the last block's steps, prefills, time

    @property
    def searching(self) -> bool:
        """Whether blocks are still timed."""
        return self._found is None

    @property
    def steps(self) -> int:
        """Of the next block."""
        if self._found is not None:
            return self._found
        return next(n for n in _TIMED_STEPS if len(self._times[n]) < _BLOCKS_OF_EACH)

    def record_block(
        self, steps: int, before: int, now: int, tokens: float = DEFAULT_TOKENS
    ) -> None:
        """A block has been read.

        Its time is that since the block before, if both had the same number of steps and the device
        did nothing else.

        Args:
          steps: of the block.
          before: prefill calls made until it was dispatched.
          now: prefill calls made until now.
          tokens: average length of the sequences in the block.
        """
        if self._found is not None:
            return
        self._blocks += 1
        if self._blocks == _MAX_BLOCKS:
            self._found = _UNTIMED_STEPS
            return
        at, last = self._clock(), self._last
        self._last = (steps, before, at)
        if last is None or (steps, before) != last[:2] or before != now:
            return
        times = self._times[steps]
        times.append(at - last[2])
        if len(times) == _BLOCKS_OF_EACH and min(times) > _SLOW_STEP_S * steps:
            self._found = _TIMED_STEPS[0]
        elif all(len(times) >= _BLOCKS_OF_EACH for times in self._times.values()):
            self._choose(tokens)

    def interrupt(self) -> None:
        """The device did something else: the next block's time is not that since the last one."""
        self._last = None

    def _choose(self, tokens: float) -> None:
        few, many = _TIMED_STEPS
        step_s, call_s = line(few, min(self._times[few]), many, min(self._times[many]))
        self._found = best_steps(step_s, call_s, tokens)
        _log.info(
            "%d steps a call: a step takes %.2f ms, a call %.2f ms beside its steps",
            *(self._found, step_s * 1e3, call_s * 1e3),
        )


def line(few: int, few_s: float, many: int, many_s: float) -> tuple[float, float]:
    """Seconds of a step and of a call, from the times of blocks of `few` and of `many` steps."""
    step_s = max(0.0, (many_s - few_s) / (many - few))
    return step_s, max(0.0, few_s - few * step_s)
