"""Prepares rows before the engine needs them, on a thread of its own."""

import logging
from collections import deque
from collections.abc import Callable
from threading import Condition, Thread

from rgpipeline.errors import WorkerError
from rgpipeline.records import SampleKey
from rgpipeline.worker.row_maker import RowMaker
from rgpipeline.worker.shared import ActiveAssignment, Batch, log_context

_MAX_ROUNDS = 3

_log = logging.getLogger(__name__)


class Feeder:
    """Turns assignments into batches of rows, in order, a bounded number of bytes ahead."""

    def __init__(self, maker: RowMaker, ahead_bytes: int, wake: Callable[[], None]) -> None:
        """`wake` is called whenever a batch is ready, or the thread has failed."""
        self._maker = maker
        self._ahead_bytes = ahead_bytes
        self._wake = wake
        self._changed = Condition()
        self._assigned: deque[ActiveAssignment] = deque()
        self._ready: deque[Batch] = deque()
        self._ready_bytes = 0
        self._closed = False
        self._error: Exception | None = None
        self.progress_counter = 0  # grows with every batch made
        self._thread = Thread(target=self._run, name="feeder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def at(self) -> SampleKey | None:
        """The row that is being prepared now."""
        return self._maker.at

    def feed(self, active: ActiveAssignment) -> None:
        with self._changed:
            self._assigned.append(active)
            self._changed.notify_all()

    def feed_again(self, active: ActiveAssignment) -> None:
        """Another worker's rows kept some of ours out of the log: the missing rows are redone."""
        active.rounds += 1
        if active.rounds > _MAX_ROUNDS:
            shard, start, stop = active.assignment.key
            raise WorkerError(
                f"shard {shard}, rows {start} to {stop}: all were published and the log lacks some"
            )
        active.fed = False
        self.feed(active)

    def take(self) -> Batch | None:
        """The next batch, or None while none is ready; skips those of dropped assignments.

        Raises the thread's exception: StoreError when the input can't be read.
        """
        with self._changed:
            if self._error is not None:
                raise self._error
            while self._ready:
                batch = self._ready.popleft()
                self._ready_bytes -= batch.nbytes
                self._changed.notify_all()
                if not batch.active.dropped:
                    return batch
            return None

    def close(self) -> None:
        """Ends the thread and drops what is ready. Doesn't wait for a read that has begun."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            while (active := self._next()) is not None:
                with log_context(active.shard):
                    if not self._feed(active):
                        return
        except Exception as error:
            with self._changed:
                self._error = error
            self._wake()

    def _feed(self, active: ActiveAssignment) -> bool:
        """Queues all batches of an assignment; False once closed."""
        _log.info("rows %d to %d are read", *active.assignment.key[1:])
        for batch in self._maker.batches(active):
            self.progress_counter += 1
            if not self._offer(batch):
                return False
        return True

    def _next(self) -> ActiveAssignment | None:
        with self._changed:
            self._changed.wait_for(lambda: self._assigned or self._closed)
            return None if self._closed else self._assigned.popleft()

    def _offer(self, batch: Batch) -> bool:
        """Queues a batch, once there is room for it; False once closed."""

        def room() -> bool:
            fits = not self._ready or self._ready_bytes + batch.nbytes <= self._ahead_bytes
            return fits or self._closed or batch.active.dropped

        with self._changed:
            self._changed.wait_for(room)
            self._ready.append(batch)
            self._ready_bytes += batch.nbytes
        self._wake()
        return not self._closed
