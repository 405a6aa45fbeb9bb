"""Rows made ready ahead of the engine, on a thread of their own."""

import logging
from collections import deque
from collections.abc import Callable
from threading import Condition, Thread

from rgpipeline.records import SampleKey
from rgpipeline.worker.row_maker import RowMaker
from rgpipeline.worker.shared import Batch, Held, log_context

_log = logging.getLogger(__name__)


class Feeder:
    """Assignments in, batches of rows out, in order; a bounded number of bytes ahead."""

    def __init__(self, maker: RowMaker, ahead_bytes: int, wake: Callable[[], None]) -> None:
        """`wake` is called whenever there is something to take."""
        self._maker = maker
        self._ahead_bytes = ahead_bytes
        self._wake = wake
        self._changed = Condition()
        self._assigned: deque[Held] = deque()
        self._ready: deque[Batch] = deque()
        self._ready_bytes = 0
        self._closed = False
        self._error: Exception | None = None
        self.beat = 0  # grows with every batch made
        self._thread = Thread(target=self._run, name="feeder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def at(self) -> SampleKey | None:
        """The row being made ready just now."""
        return self._maker.at

    def feed(self, held: Held) -> None:
        """Adds an assignment to what is to be made ready."""
        with self._changed:
            self._assigned.append(held)
            self._changed.notify_all()

    def take(self) -> Batch | None:
        """The next batch if one is ready; those of dropped assignments are left out.

        Raises what the thread ran into: StoreError, when input can't be read for long.
        """
        with self._changed:
            if self._error is not None:
                raise self._error
            while self._ready:
                batch = self._ready.popleft()
                self._ready_bytes -= batch.nbytes
                self._changed.notify_all()
                if not batch.held.dropped:
                    return batch
            return None

    def close(self) -> None:
        """Ends the thread; what is ready is dropped. Doesn't wait for a read under way."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            while (held := self._next()) is not None:
                with log_context(held.shard):
                    if not self._make_ready(held):
                        return
        except Exception as error:
            with self._changed:
                self._error = error
            self._wake()

    def _make_ready(self, held: Held) -> bool:
        """False once closed."""
        _log.info("rows %d to %d are taken up", *held.assignment.key[1:])
        for batch in self._maker.batches(held):
            self.beat += 1
            if not self._offer(batch):
                return False
        return True

    def _next(self) -> Held | None:
        with self._changed:
            self._changed.wait_for(lambda: self._assigned or self._closed)
            return None if self._closed else self._assigned.popleft()

    def _offer(self, batch: Batch) -> bool:
        """Waits until there is room; False once closed."""

        def room() -> bool:
            fits = not self._ready or self._ready_bytes + batch.nbytes <= self._ahead_bytes
            return fits or self._closed or batch.held.dropped

        with self._changed:
            self._changed.wait_for(room, timeout=None)
            self._ready.append(batch)
            self._ready_bytes += batch.nbytes
        self._wake()
        return not self._closed
