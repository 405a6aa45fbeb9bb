"""One engine loop for all threads of a process."""

import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from rgpipeline.engine.loop import Loop
from rgpipeline.errors import UserError
from rgpipeline.generator.running_sequence import RunningSequence

AnyLoop = Loop[Any, Any]


class SharedLoop:
    """Sequences of any number of threads in the slots of one loop.

    One thread at a time has the turn: it alone touches the loop. Whoever waits for a sequence takes
    the turn if it is free, and steps the loop for all; otherwise it waits for the step's end. What
    others want of the loop is queued as tasks, which the next step does first.

    `end` may be called by Python's garbage collector, in whatever thread and at whatever line: so
    it waits for no lock.
    """

    def __init__(self, loop: AnyLoop) -> None:
        self._loop: AnyLoop | None = loop  # None once closed
        self._pid = os.getpid()
        self._tasks: deque[Callable[[AnyLoop], None]] = deque()
        self._running: dict[int, RunningSequence] = {}  # by key; for who has the turn
        self._keys = itertools.count()
        self.scoring = threading.RLock()  # of the thread whose texts are being scored
        self._turn = threading.Condition(threading.Lock())  # guards the three below
        self._taken: int | None = None  # by this thread
        self._turns = 0  # that have ended
        self._alone = 0  # threads that wait for a turn of their own
        self._halfway = False  # a step was broken off: what the loop holds can't be relied on

    def opened(self) -> AnyLoop:
        """The loop, for what only reads it. Raises UserError if it can't be used here any more."""
        if os.getpid() != self._pid:
            raise UserError(
                f"this Generator was loaded by process {self._pid}, of which this process is a "
                f"fork; a device can't be used after a fork. Load a Generator in this process, or "
                f'start processes by multiprocessing\'s "spawn" method'
            )
        if self._loop is None:
            raise UserError("the Generator is closed; load another one")
        return self._loop

    @property
    def usable(self) -> bool:
        """Whether `opened` would return the loop."""
        return os.getpid() == self._pid and self._loop is not None

    def begin(self, sequences: Iterable[RunningSequence]) -> None:
        """Queues sequences; `advance` takes them on."""
        self.opened()
        for sequence in sequences:
            sequence.request = replace(sequence.request, key=next(self._keys))
            self._tasks.append(partial(self._start, sequence))

    def advance(self) -> None:
        """Returns after one step of the loop, made by this thread or by another one.

        What a step raises is raised to the thread that made it. The sequences of others then begin
        anew, which gives the same tokens.
        """
        loop, mine = self.opened(), False
        try:
            with self._turn:
                if self._taken not in (None, threading.get_ident()) or self._alone:
                    turns = self._turns
                    self._turn.wait_for(lambda: self._turns != turns or self._free())
                    return
                self._taken, mine = threading.get_ident(), True
            self._step(loop)
        finally:
            if mine:
                self._pass_on()

    def end(self, sequences: Iterable[RunningSequence]) -> None:
        """Forgets sequences; those not finished leave their slots, now or before the next step."""
        if os.getpid() != self._pid:
            return
        for sequence in sequences:
            self._tasks.append(partial(self._stop, sequence))
        if not self._turn.acquire(blocking=False):
            return
        try:
            if self._taken is None and not self._halfway and self._loop is not None:
                self._halfway = True
                self._do_tasks(self._loop)
                self._halfway = False
        finally:
            self._turn.release()

    @contextmanager
    def alone(self) -> Iterator[AnyLoop]:
        """A turn in which this thread does with the loop what it likes."""
        self.opened()
        mine = False
        try:
            with self._turn:
                self._alone += 1
                try:
                    self._turn.wait_for(lambda: self._taken is None)
                finally:
                    self._alone -= 1
                    self._turn.notify_all()
                self._taken, mine = threading.get_ident(), True
            loop, halfway, self._halfway = self.opened(), self._halfway, True
            yield loop
            self._halfway = halfway
        finally:
            if mine:
                self._pass_on()

    def close(self) -> None:
        """Drops the loop, and with it the memory of weights and states; again, it is harmless."""
        if os.getpid() != self._pid or self._loop is None:
            return
        with self.alone():
            self._tasks.clear()
            self._running.clear()
            self._loop = None

    def _free(self) -> bool:
        return self._taken is None and not self._alone

    def _pass_on(self) -> None:
        with self._turn:
            self._taken = None
            self._turns += 1
            self._turn.notify_all()

    def _step(self, loop: AnyLoop) -> None:
        if self._halfway:
            self._start_over(loop)
        self._halfway = True
        self._do_tasks(loop)
        for emission in loop.step():
            sequence = self._running.get(emission.key)  # type: ignore[call-overload]
            if sequence is not None and sequence.take(emission):
                loop.cancel(emission.key)
        self._halfway = False

    def _do_tasks(self, loop: AnyLoop) -> None:
        while self._tasks:
            self._tasks[0](loop)
            self._tasks.popleft()  # afterwards: done again, they are harmless

    def _start_over(self, loop: AnyLoop) -> None:
        """Makes the loop's state anew after a step that an exception broke off (a Ctrl-C, say)."""
        loop.reset()
        for sequence in self._running.values():
            if sequence.finish is None:
                sequence.restart()
                loop.submit([sequence.request])
            else:
                sequence.tell()  # it may have been about to

    def _start(self, sequence: RunningSequence, loop: AnyLoop) -> None:
        key = sequence.request.key
        assert isinstance(key, int)
        if key not in self._running:
            self._running[key] = sequence
            loop.submit([sequence.request])

    def _stop(self, sequence: RunningSequence, loop: AnyLoop) -> None:
        key = sequence.request.key
        assert isinstance(key, int)
        if self._running.get(key) is sequence:
            del self._running[key]
            if sequence.finish is None:
                loop.cancel(key)
