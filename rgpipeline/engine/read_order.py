"""Whether a step with masks is read before the next one is dispatched, or after.

Read after it, the host's work overlaps the device's. But a sequence that its grammar ended takes
part in the next step for nothing, and its slot is free one step late: of a sequence of n tokens,
one step of n + 1. Read before it, the slot goes to a waiting sequence at once, and the device waits
while the host reads, moves the grammars on and fills slots.

A row's bits don't depend on the order. So a clock may choose it: what the device would waste is
compared with what it would wait.
"""

import time
from collections.abc import Callable

from rgpipeline.engine.sequence import IndexPool

# Few, since the average begins with the worst: it should be forgotten soon where rows are long.
_AVERAGED_STEPS = 4
_DECAY = 7 / 8  # of the host's time while it isn't measured, so that it is measured again


class ReadOrder:
    """Measures steps with masks, and chooses the order of the next one."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._first = True
        self._wasted = 1.0  # of a step that is dispatched before the last one is read, on average
        self._step_s = 0.0
        self._host_s = 0.0  # from a step's end to the next forward
        self._read_at = 0.0
        self._forward: tuple[int, float] | None = None  # the last one: prefill calls so far, time

    def choose(self) -> bool:
        """Whether to read first the step that is in flight."""
        self._first = self._host_s <= self._wasted * self._step_s
        return self._first

    def record_read(self) -> None:
        """The device has finished a step."""
        self._read_at = self._clock()

    def record_ended(self, before: int, slots: IndexPool, waiting: int) -> None:
        """The step has been read.

        Args:
          before: sequences in slots until then.
          slots: those that go on.
          waiting: sequences without a slot; without any, an idle slot is no loss.
        """
        idle = (before - len(slots)) / slots.count if waiting else 0.0
        self._wasted += ((idle if slots else 1.0) - self._wasted) / _AVERAGED_STEPS

    def record_forward(self, prefills: int) -> None:
        """The next step's forward is dispatched. `prefills`: calls so far.

        If there were any since the last forward, times mean nothing.
        """
        now = self._clock()
        if not self._first:
            self._host_s *= _DECAY
        if self._forward is not None and self._forward[0] == prefills:
            self._step_s = now - self._forward[1]
            if self._first:
                self._host_s = now - self._read_at
        self._forward = prefills, now

    def interrupt(self) -> None:
        """The step in flight, if any, is none with masks."""
        self._forward = None
