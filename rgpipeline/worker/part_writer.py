"""What waits to be published to one shard, and the parts made of it.

A row that can't be written becomes an error.
"""

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from rgpipeline.io.log import ShardLog
from rgpipeline.io.parts import build_part
from rgpipeline.io.readers import take_rows
from rgpipeline.io.shard_rows import InputRows
from rgpipeline.io.snapshots import Snapshots
from rgpipeline.plan import Plan
from rgpipeline.read_texts import ReadText
from rgpipeline.records import OutputRow, SampleKey, ShardDone, Snapshot
from rgpipeline.spec import Job
from rgpipeline.tasks import added_columns
from rgpipeline.tasks.task import Notes, RowLabel, error_text
from rgpipeline.worker.row_maker import place_of
from rgpipeline.worker.shared import ActiveAssignment, WorkerPolicy

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Save:
    """A sequence's state to save; the rows of all its complete segments were added before it."""

    key: SampleKey
    snapshot: Snapshot
    notes: Notes

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.snapshot.arrays.values())


@dataclass(slots=True)
class Pending:
    """What waits for a shard, in the order of publishing."""

    states: list[ReadText] = field(default_factory=list)  # before the rows, which name them
    rows: list[OutputRow] = field(default_factory=list)
    saves: list[Save] = field(default_factory=list)  # after the rows
    forget: list[SampleKey] = field(default_factory=list)  # final samples: their snapshots go
    nbytes: int = 0
    since: float | None = None  # when the first of it was added


@dataclass(slots=True, eq=False)
class ShardOutput:
    """One shard's log and what waits for it; the publisher's lock guards everything but `log`."""

    log: ShardLog
    refreshed: float  # when the log was last read
    input: InputRows | None = None
    assignments: list[ActiveAssignment] = field(default_factory=list)
    pending: Pending = field(default_factory=Pending)
    row_bytes: float = 0.0  # of kept input columns, for one row

    def add(self, rows: Iterable[OutputRow], now: float) -> int:
        """Adds rows; returns their size in bytes, approximately."""
        added = 0
        for row in rows:
            self.pending.rows.append(row)
            added += int(self.row_bytes) + _nbytes(row)
        return self._grow(added, now)

    def store(self, state: ReadText, now: float) -> int:
        """Adds a state that a row names; returns its size in bytes."""
        self.pending.states.append(state)
        return self._grow(state.nbytes, now)

    def save(self, save: Save, now: float) -> int:
        """Adds a snapshot; returns its size in bytes."""
        self.pending.saves.append(save)
        return self._grow(save.nbytes, now)

    def forget(self, key: SampleKey, now: float) -> None:
        """Has the snapshots of a final sample removed, after its rows are published."""
        self.pending.forget.append(key)
        self._grow(0, now)

    def due_at(self, policy: WorkerPolicy) -> float:
        """The time to publish, or to read the log again; `-inf` for at once."""
        pending = self.pending
        closing = any(active.closing and not active.dropped for active in self.assignments)
        if closing or pending.nbytes >= policy.part_bytes:
            return -math.inf
        look = self.refreshed + policy.refresh_s if self.assignments else math.inf
        if pending.since is None:
            return look
        return min(look, pending.since + (policy.save_s if pending.saves else policy.part_s))

    def _grow(self, nbytes: int, now: float) -> int:
        self.pending.nbytes += nbytes
        if self.pending.since is None:
            self.pending.since = now
        return nbytes


def write_snapshots(snapshots: Snapshots, output: ShardOutput, pending: Pending) -> None:
    """Saves the last state of each sample that isn't final, and removes its older ones.

    Removes all snapshots of `pending.forget`.
    """
    last = {save.key: save for save in pending.saves}
    for key, save in last.items():
        if not output.log.committed.final(key.row, key.sample):
            snapshots.save(key, save.snapshot, save.notes)
            snapshots.remove(key, below=save.snapshot.generated)
    for key in pending.forget:
        snapshots.remove(key)


def shard_done(output: ShardOutput, active: ActiveAssignment) -> ShardDone | None:
    """The report of an assignment whose rows are all finished; None when some are not."""
    committed = output.log.committed
    _, start, stop = active.assignment.key
    rows = range(start, stop)
    if not all(committed.row_finished(row) for row in rows):
        return None
    failed = sum(committed.row_failed(row) for row in rows)
    return ShardDone(output.log.shard, len(rows), failed, active.assignment.rows)


def row_bytes(input: InputRows, kept: Sequence[str]) -> float:
    """Memory of one row's kept columns in bytes, approximately."""
    return float(input.table.select(list(kept)).nbytes / max(1, input.table.num_rows))


def _nbytes(row: OutputRow) -> int:
    text = len(row.completion or "") + len(row.error or "")
    ids = len(row.completion_ids or ()) * 4
    return 200 + text + ids + len(row.logprobs or ()) * 4


class _UnbuildableError(Exception):
    """A part can't be built from these rows."""

    def __init__(self, fault: Exception) -> None:
        super().__init__(str(fault))
        self.fault = fault


@dataclass(frozen=True, slots=True)
class PartWriter:
    """Publishes rows of any shard of a job."""

    job: Job
    plan: Plan
    attempt: str

    def append(self, output: ShardOutput, rows: Sequence[OutputRow]) -> list[OutputRow]:
        """Appends rows to their log; returns those that the log didn't have already.

        They become one part, or several where one would be too large. A row that can't be written
        is published with an `error` instead; if its kept columns are the cause, they become null.
        Raises StoreError, as `ShardLog.append`.
        """
        input = output.input
        assert input is not None, "the input is set with the first batch"
        ordered = sorted(rows, key=lambda row: (row.row, row.sample, row.segment))
        return _append(output, ordered, _Builder(self, output.log.shard, input))


def _append(output: ShardOutput, rows: Sequence[OutputRow], builder: "_Builder") -> list[OutputRow]:
    try:
        return output.log.append(rows, builder.build)
    except _UnbuildableError as error:
        repaired = builder.repaired(rows)
        if repaired != rows:
            return _append(output, repaired, builder)
        if len(rows) == 1:
            raise error.fault from None
    # Each row can be built alone, so all of them together are too large for one part.
    middle = len(rows) // 2
    first = _append(output, rows[:middle], builder)
    return first + _append(output, rows[middle:], builder)


@dataclass(slots=True)
class _Builder:
    """Builds the parts of one shard."""

    writer: PartWriter
    shard: int
    input: InputRows
    without: set[int] = field(default_factory=set)  # rows whose kept columns can't be written

    def build(self, rows: Sequence[OutputRow], part: int) -> bytes:
        """A part's bytes. Raises _UnbuildableError."""
        job, plan = self.writer.job, self.writer.plan
        label = plan.label(job, self.shard, part, self.writer.attempt)
        kept = self.input.table.select(list(plan.kept))
        kept_rows = [None if row.row in self.without else row.row for row in rows]
        try:
            added = added_columns(job, plan.choices)
            return build_part(take_rows(kept, kept_rows), rows, added, label)
        except MemoryError:
            raise
        except Exception as error:
            raise _UnbuildableError(error) from error

    def repaired(self, rows: Sequence[OutputRow]) -> list[OutputRow]:
        """`rows`, with an error in place of each that can't be built (found by bisection)."""
        fault = self._fault(rows)
        if fault is None:
            return list(rows)
        if len(rows) == 1:
            return [self._failed(rows[0], fault)]
        middle = len(rows) // 2
        return self.repaired(rows[:middle]) + self.repaired(rows[middle:])

    def _fault(self, rows: Sequence[OutputRow]) -> Exception | None:
        try:
            self.build(rows, 0)
        except _UnbuildableError as error:
            return error.fault
        return None

    def _failed(self, row: OutputRow, fault: Exception) -> OutputRow:
        label = RowLabel(self.shard, row.row, row.id, place_of(self.input, row.row))
        error = f"its output can't be written ({error_text(fault)})"
        failed = replace(
            row,
            completion=None,
            finish_reason="error",
            completion_tokens=0,
            completion_ids=None,
            logprobs=None,
            state=None,
            result=None,
            final=True,
            error=label.error(error),
        )
        _log.warning("%s", failed.error)
        if self._fault([failed]) is not None:
            self.without.add(row.row)
        return failed
