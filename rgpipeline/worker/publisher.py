"""Publishes rows and snapshots on a thread of its own, so that the engine never waits."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from threading import Condition, Thread

from rgpipeline.io.log import ShardLog
from rgpipeline.io.shard_rows import InputRows
from rgpipeline.io.snapshots import Snapshots
from rgpipeline.io.stored_states import StoredStates
from rgpipeline.read_texts import ReadText
from rgpipeline.records import OutputRow, SampleKey, ShardDone
from rgpipeline.storage.store import Store
from rgpipeline.worker.part_writer import (
    PartWriter,
    Pending,
    Save,
    ShardOutput,
    row_bytes,
    shard_done,
    write_snapshots,
)
from rgpipeline.worker.shared import (
    ActiveAssignment,
    Finished,
    PublishedByOthers,
    PublisherEvent,
    Unfinished,
    WorkerPolicy,
    log_context,
)

_log = logging.getLogger(__name__)

_IDLE_S = 5.0  # until shards without assignments are dropped, when nothing else is due


class Publisher:
    """Takes rows and snapshots of one worker, and appends parts to the logs of its shards.

    Rows are published before the snapshots that were added after them: a snapshot is never ahead
    of the log.
    """

    def __init__(
        self, writer: PartWriter, store: Store, policy: WorkerPolicy, wake: Callable[[], None]
    ) -> None:
        """`wake` is called whenever there are events, or the thread has failed."""
        self._writer = writer
        self._snapshots = Snapshots(store)
        self._states = StoredStates(store)
        self._policy = policy
        self._wake = wake
        self._changed = Condition()
        self._shards: dict[int, ShardOutput] = {}
        self._events: deque[PublisherEvent] = deque()
        self._waiting_bytes = 0
        self._closed = False
        self._sleeps_until = -math.inf  # when the thread wakes up by itself
        self._error: Exception | None = None
        self._thread = Thread(target=self._run, name="publisher", daemon=True)
        self.progress_counter = 0  # grows with every round of publishing
        self.saved = 0  # parts and snapshots
        self.finished: tuple[ShardDone, ...] = ()
        self.rows_done = 0
        self.rows_failed = 0
        self.saving = 0  # snapshots that wait to be saved

    def start(self) -> None:
        self._thread.start()

    @property
    def full(self) -> bool:
        """Whether the engine must wait until the store has caught up."""
        return self._waiting_bytes > self._policy.backlog_bytes

    def open(self, active: ActiveAssignment, log: ShardLog, input: InputRows | None) -> None:
        """Adds an assignment. Its log, just read, and its input now belong to the publisher."""
        with self._changed:
            output = self._shards.get(active.shard)
            if output is None:
                output = ShardOutput(log, refreshed=time.monotonic())
                self._shards[log.shard] = output
            if output.input is None and input is not None:
                output.input = input
                output.row_bytes = row_bytes(input, self._writer.plan.kept)
            if log.parts > output.log.parts:
                output.refreshed = -math.inf
            output.assignments.append(active)
            self._wake_for(output)

    def add(
        self,
        shard: int,
        rows: Iterable[OutputRow],
        forget: SampleKey | None = None,
        state: ReadText | None = None,
    ) -> None:
        """Adds rows of an open shard; then the snapshots of the sample `forget` are removed.

        `state`: one that a row names. It is stored before the rows are published.
        """
        with self._changed:
            output, now = self._shards.get(shard), time.monotonic()
            if output is None:
                return  # other workers have just finished the shard
            if state is not None:
                self._waiting_bytes += output.store(state, now)
            self._waiting_bytes += output.add(rows, now)
            if forget is not None:
                output.forget(forget, now)
            self._wake_for(output)

    def save(self, save: Save) -> None:
        """Adds a sequence's state."""
        with self._changed:
            output = self._shards.get(save.key.shard)
            if output is None:
                return
            self._waiting_bytes += output.save(save, time.monotonic())
            self.saving += 1
            self._wake_for(output)

    def finish(self, active: ActiveAssignment) -> None:
        """Has an assignment published now: all its rows were added. An event tells the result."""
        with self._changed:
            active.closing = True
            self._changed.notify_all()

    def events(self) -> list[PublisherEvent]:
        """The events since the last call. Raises the thread's exception."""
        with self._changed:
            if self._error is not None:
                raise self._error
            events = list(self._events)
            self._events.clear()
            return events

    def close(self) -> None:
        """Publishes all that was added and ends the thread. Raises the thread's exception."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while (work := self._next()) is not None:
                with log_context(work[0].log.shard):
                    self._publish(*work)
        except Exception as error:
            with self._changed:
                self._error = error
            self._wake()

    def _next(self) -> tuple[ShardOutput, Pending] | None:
        """Waits for a shard that is due, and takes what waits there; None once closed and empty."""
        with self._changed:
            while True:
                self._drop_released()
                now = time.monotonic()
                dues = {shard: self._due_at(output) for shard, output in self._shards.items()}
                first = min(dues, key=lambda shard: dues[shard], default=None)
                if first is not None and dues[first] <= now:
                    output = self._shards[first]
                    pending, output.pending = output.pending, Pending()
                    return output, pending
                if self._closed:
                    return None
                self._sleeps_until = min([*dues.values(), now + _IDLE_S])
                self._changed.wait(self._sleeps_until - now)
                self._sleeps_until = -math.inf

    def _due_at(self, output: ShardOutput) -> float:
        waits = output.pending.since is not None
        return -math.inf if self._closed and waits else output.due_at(self._policy)

    def _wake_for(self, output: ShardOutput) -> None:
        """Wakes the thread if the shard is due earlier; a wake-up for every row would be slow."""
        if self._due_at(output) < self._sleeps_until:
            self._changed.notify_all()

    def _drop_released(self) -> None:
        for shard, output in list(self._shards.items()):
            output.assignments = [active for active in output.assignments if not active.dropped]
            if not output.assignments and output.pending.since is None:
                del self._shards[shard]

    def _publish(self, output: ShardOutput, pending: Pending) -> None:
        """One round: store states, append, count, save, read other workers' parts, add events."""
        ours, saved = output.log.parts, len(pending.saves)
        for state in pending.states:
            self._states.put(state)
        if pending.rows:
            published = self._writer.append(output, pending.rows)
            _log.info("%d rows are published", len(published))
            ours += bool(published)
            saved += bool(published)
            self._count(output, published)
        write_snapshots(self._snapshots, output, pending)
        self._read_others_parts(output)
        with self._changed:
            self.progress_counter += 1 if pending.since is not None else 0
            self.saved += saved
            self.saving -= len(pending.saves)
            self._waiting_bytes -= pending.nbytes
            if output.log.parts > ours:
                committed = output.log.committed.copy()
                self._events.append(PublishedByOthers(output.log.shard, committed))
            self._add_ends(output)
        self._wake()

    def _read_others_parts(self, output: ShardOutput) -> None:
        due = time.monotonic() - output.refreshed >= self._policy.refresh_s
        closing = [active for active in output.assignments if active.closing]
        if due or not all(shard_done(output, active) for active in closing):
            output.log.refresh()
            output.refreshed = time.monotonic()

    def _count(self, output: ShardOutput, published: list[OutputRow]) -> None:
        committed = output.log.committed
        finished = {row.row for row in published if committed.row_finished(row.row)}
        failed = sum(committed.row_failed(row) for row in finished)
        self.rows_failed += failed
        self.rows_done += len(finished) - failed

    def _add_ends(self, output: ShardOutput) -> None:
        """Adds an event for each assignment that is finished, or was to be and is not."""
        for active in output.assignments:
            if active.dropped:
                continue
            report = shard_done(output, active)
            if report is not None:
                active.dropped = True
                self.finished += (report,)
                _log.info("%d rows are finished, %d of them failed", report.rows, report.failed)
                self._events.append(Finished(active))
            elif active.closing and output.pending.since is None:
                active.closing = False
                self._events.append(Unfinished(active))
