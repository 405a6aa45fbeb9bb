"""Rows gathered, published and accounted for, on a thread of their own: the engine never waits."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Condition, Thread

from rgpipeline.assignments import ShardDone
from rgpipeline.io.committed_rows import CommittedRows
from rgpipeline.io.log import ShardLog
from rgpipeline.io.shard_rows import InputRows
from rgpipeline.io.snapshots import Snapshots
from rgpipeline.records import OutputRow, SampleKey
from rgpipeline.storage.store import Store
from rgpipeline.worker.part_writer import PartWriter
from rgpipeline.worker.shard_output import (
    Pending,
    Save,
    ShardOutput,
    done,
    row_bytes,
    write_snapshots,
)
from rgpipeline.worker.shared import Held, WorkerPolicy, log_context

_log = logging.getLogger(__name__)

_LOOK_S = 5.0  # between looks for shards that were taken away, when nothing is due


@dataclass(frozen=True, slots=True)
class PublishedByOthers:
    """Others have published rows of a shard: what its log holds now."""

    shard: int
    committed: CommittedRows


@dataclass(frozen=True, slots=True)
class Finished:
    """The log covers all of an assignment."""

    held: Held


@dataclass(frozen=True, slots=True)
class Unfinished:
    """All that we had of an assignment is published, and its log lacks some of it."""

    held: Held


PublisherEvent = PublishedByOthers | Finished | Unfinished


class Publisher:
    """One worker's way out: rows and snapshots in, parts in logs out.

    Everything handed in of a shard is published in its order, rows before the snapshots that
    came after them: a snapshot is never ahead of the log.
    """

    def __init__(
        self, writer: PartWriter, store: Store, policy: WorkerPolicy, wake: Callable[[], None]
    ) -> None:
        """`wake` is called whenever there is something to take."""
        self._writer = writer
        self._snapshots = Snapshots(store)
        self._policy = policy
        self._wake = wake
        self._changed = Condition()
        self._shards: dict[int, ShardOutput] = {}
        self._events: deque[PublisherEvent] = deque()
        self._waiting_bytes = 0
        self._closed = False
        self._sleeps_until = -math.inf  # the thread, if nobody wakes it
        self._error: Exception | None = None
        self._thread = Thread(target=self._run, name="publisher", daemon=True)
        self.beat = 0  # grows with every part and snapshot
        self.saved = 0  # parts and snapshots
        self.finished: tuple[ShardDone, ...] = ()
        self.rows_done = 0
        self.rows_failed = 0
        self.saving = 0  # snapshots that wait to be saved

    def start(self) -> None:
        self._thread.start()

    @property
    def full(self) -> bool:
        """True when no more shall be handed in until the store has caught up."""
        return self._waiting_bytes > self._policy.backlog_bytes

    def open(self, held: Held, log: ShardLog, input: InputRows | None) -> None:
        """An assignment's log, just read, and its input; from now on they are the publisher's."""
        with self._changed:
            output = self._shards.get(held.shard)
            if output is None:
                output = ShardOutput(log, refreshed=time.monotonic())
                self._shards[log.shard] = output
            if output.input is None and input is not None:
                output.input = input
                output.row_bytes = row_bytes(input, self._writer.plan.kept)
            if log.parts > output.log.parts:
                output.refreshed = -math.inf
            output.helds.append(held)
            self._wake_for(output)

    def add(self, shard: int, rows: Iterable[OutputRow], forget: SampleKey | None = None) -> None:
        """Hands in rows of an open shard; `forget`: a sample whose snapshots go thereafter."""
        with self._changed:
            output, now = self._shards.get(shard), time.monotonic()
            if output is None:
                return  # others have finished the shard just now
            self._waiting_bytes += output.add(rows, now)
            if forget is not None:
                output.forget(forget, now)
            self._wake_for(output)

    def save(self, save: Save) -> None:
        """Hands in a sequence's state."""
        with self._changed:
            output = self._shards.get(save.key.shard)
            if output is None:
                return
            self._waiting_bytes += output.save(save, time.monotonic())
            self.saving += 1
            self._wake_for(output)

    def finish(self, held: Held) -> None:
        """All of an assignment has been handed in: publish it now, and say whether it is done."""
        with self._changed:
            held.closing = True
            self._changed.notify_all()

    def events(self) -> list[PublisherEvent]:
        """What has happened since the last call. Raises what the thread ran into."""
        with self._changed:
            if self._error is not None:
                raise self._error
            events = list(self._events)
            self._events.clear()
            return events

    def close(self) -> None:
        """Publishes everything that was handed in, and ends. Raises what goes wrong in that."""
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
        """Waits for a shard that is due, and takes what it has; None once closed and empty."""
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
                self._sleeps_until = min([*dues.values(), now + _LOOK_S])
                self._changed.wait(self._sleeps_until - now)
                self._sleeps_until = -math.inf

    def _due_at(self, output: ShardOutput) -> float:
        waits = output.pending.since is not None
        return -math.inf if self._closed and waits else output.due_at(self._policy)

    def _wake_for(self, output: ShardOutput) -> None:
        """Not for every row: a thread that wakes costs more than the row does."""
        if self._due_at(output) < self._sleeps_until:
            self._changed.notify_all()

    def _drop_released(self) -> None:
        for shard, output in list(self._shards.items()):
            output.helds = [held for held in output.helds if not held.dropped]
            if not output.helds and output.pending.since is None:
                del self._shards[shard]

    def _publish(self, output: ShardOutput, pending: Pending) -> None:
        """One round of a shard: append, count, save, look at what others did, tell."""
        ours, saved = output.log.parts, len(pending.saves)
        if pending.rows:
            published = self._writer.append(output, pending.rows)
            _log.info("%d rows are published", len(published))
            ours += bool(published)
            saved += bool(published)
            self._count(output, published)
        write_snapshots(self._snapshots, output, pending)
        self._look_at_others(output)
        with self._changed:
            self.beat += 1 if pending.since is not None else 0
            self.saved += saved
            self.saving -= len(pending.saves)
            self._waiting_bytes -= pending.nbytes
            if output.log.parts > ours:
                committed = output.log.committed.copy()
                self._events.append(PublishedByOthers(output.log.shard, committed))
            self._settle(output)
        self._wake()

    def _look_at_others(self, output: ShardOutput) -> None:
        due = time.monotonic() - output.refreshed >= self._policy.refresh_s
        if due or any(held.closing and not done(output, held) for held in output.helds):
            output.log.refresh()
            output.refreshed = time.monotonic()

    def _count(self, output: ShardOutput, published: list[OutputRow]) -> None:
        committed = output.log.committed
        finished = {row.row for row in published if committed.row_finished(row.row)}
        failed = sum(committed.row_failed(row) for row in finished)
        self.rows_failed += failed
        self.rows_done += len(finished) - failed

    def _settle(self, output: ShardOutput) -> None:
        """Tells of the assignments that are covered, and of those that should be."""
        for held in output.helds:
            if held.dropped:
                continue
            report = done(output, held)
            if report is not None:
                held.dropped = True
                self.finished += (report,)
                _log.info("%d rows are finished, %d of them failed", report.rows, report.failed)
                self._events.append(Finished(held))
            elif held.closing and output.pending.since is None:
                held.closing = False
                self._events.append(Unfinished(held))
