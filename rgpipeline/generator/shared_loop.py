"""One engine loop, shared by all threads of a process."""

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
    """Runs the sequences of any number of threads in the slots of one loop.

    One thread at a time has the turn, and only it uses the loop. A thread that waits for a sequence
    takes the turn if it is free, and steps the loop for all threads; otherwise it waits until the
    step ends. Requests to the loop are queued as commands, which the next step executes first.

    Python's garbage collector may call `end`, in any thread and at any line. So `end` waits for no
    lock.
    """

    def __init__(self, loop: AnyLoop) -> None:
        self._loop: AnyLoop | None = loop  # None once closed
        self._pid = os.getpid()
        self._commands: deque[Callable[[AnyLoop], None]] = deque()
        self._running: dict[int, RunningSequence] = {}  # by key; used in a turn only
        self._keys = itertools.count()
        self.reading = threading.RLock()  # held by the thread whose texts are read
        self._turn = threading.Condition(threading.Lock())  # guards the next three
        self._taken: int | None = None  # id of the thread that has the turn
        self._turns = 0  # turns that have ended
        self._waiting_alone = 0  # threads that wait in `alone`
        self._broken = False  # a step has begun and not ended; between steps: it was interrupted

    def opened(self) -> AnyLoop:
        """The loop, for reading only. Raises UserError after `close` or in a forked process."""
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
        """Whether `opened` returns the loop."""
        return os.getpid() == self._pid and self._loop is not None

    def begin(self, sequences: Iterable[RunningSequence]) -> None:
        """Queues sequences for the next step."""
        self.opened()
        for sequence in sequences:
            sequence.request = replace(sequence.request, key=next(self._keys))
            self._commands.append(partial(self._start, sequence))

    def advance(self) -> None:
        """Makes one step of the loop, or waits for the end of another thread's step.

        A step's exception goes to the thread that made it. The sequences of other threads then
        start again, which gives the same tokens.
        """
        loop, mine = self.opened(), False
        try:
            with self._turn:
                if self._taken not in (None, threading.get_ident()) or self._waiting_alone:
                    turns = self._turns
                    self._turn.wait_for(lambda: self._turns != turns or self._free())
                    return
                self._taken, mine = threading.get_ident(), True
            self._step(loop)
        finally:
            if mine:
                self._end_turn()

    def end(self, sequences: Iterable[RunningSequence]) -> None:
        """Removes sequences; those not finished leave their slots, now or before the next step."""
        if os.getpid() != self._pid:
            return
        for sequence in sequences:
            self._commands.append(partial(self._stop, sequence))
        if not self._turn.acquire(blocking=False):
            return
        try:
            if self._taken is None and not self._broken and self._loop is not None:
                self._broken = True
                self._do_commands(self._loop)
                self._broken = False
        finally:
            self._turn.release()

    @contextmanager
    def alone(self) -> Iterator[AnyLoop]:
        """A turn in which this thread may use the loop freely."""
        self.opened()
        mine = False
        try:
            with self._turn:
                self._waiting_alone += 1
                try:
                    self._turn.wait_for(lambda: self._taken is None)
                finally:
                    self._waiting_alone -= 1
                    self._turn.notify_all()
                self._taken, mine = threading.get_ident(), True
            loop, broken, self._broken = self.opened(), self._broken, True
            yield loop
            self._broken = broken
        finally:
            if mine:
                self._end_turn()

    def close(self) -> None:
        """Drops the loop and the memory of weights and states. May be called twice."""
        if os.getpid() != self._pid or self._loop is None:
            return
        with self.alone():
            self._commands.clear()
            self._running.clear()
            self._loop = None

    def _free(self) -> bool:
        return self._taken is None and not self._waiting_alone

    def _end_turn(self) -> None:
        with self._turn:
            self._taken = None
            self._turns += 1
            self._turn.notify_all()

    def _step(self, loop: AnyLoop) -> None:
        if self._broken:
            self._start_over(loop)
        self._broken = True
        self._do_commands(loop)
        for emission in loop.step():
            sequence = self._running.get(emission.key)  # type: ignore[call-overload]
            if sequence is not None and sequence.take(emission):
                loop.cancel(emission.key)
        self._broken = False

    def _do_commands(self, loop: AnyLoop) -> None:
        while self._commands:
            self._commands[0](loop)
            self._commands.popleft()  # afterwards, because a command may be repeated

    def _start_over(self, loop: AnyLoop) -> None:
        """Resets the loop after a step that an exception interrupted (Ctrl-C, for example)."""
        loop.reset()
        for sequence in self._running.values():
            if sequence.finish is None:
                sequence.restart()
                loop.submit([sequence.request])
            else:
                sequence.notify()  # the interrupted step may not have done it

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
