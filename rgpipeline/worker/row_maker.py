"""Makes engine work of an assignment's rows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rgpipeline.errors import OutputError, RowError, StoreError
from rgpipeline.io.committed_rows import CommittedRows
from rgpipeline.io.log import ShardLog
from rgpipeline.io.readers import Reader
from rgpipeline.io.shard_rows import InputRows
from rgpipeline.io.snapshots import SavedSequence, Snapshots
from rgpipeline.plan import Plan
from rgpipeline.read_texts import ReadText
from rgpipeline.records import OutputRow, SampleKey
from rgpipeline.spec import Job
from rgpipeline.storage.filesystems import StorageOptions
from rgpipeline.storage.store import Store
from rgpipeline.tasks import task_of
from rgpipeline.tasks.row_prompts import Prompts, Row
from rgpipeline.tasks.task import RowLabel, RowWork, TextWork, error_text
from rgpipeline.wording import encodable
from rgpipeline.worker.shared import ActiveAssignment, Batch

# Bytes of a row that takes long to prepare: the others of its assignment come first.
_LONG_ROW = 1 << 20

_SIZE = 32  # of a batch: few enough rows that the engine begins soon


@dataclass(slots=True)
class RowMaker:
    """Reads shards and makes work of their rows. Belongs to one thread."""

    job: Job
    plan: Plan
    store: Store
    options: StorageOptions
    prompts: Prompts
    check_tokens: Callable[[NDArray[np.int32], ReadText | None], None]  # raises RowError
    dtype: str  # of the engine's states; snapshots of another can't be resumed
    at: SampleKey | None = None  # the row being made: the suspect if this process dies
    reader: Reader | None = None  # kept: the next shard is often the next in its file

    def batches(self, active: ActiveAssignment) -> Iterator[Batch]:
        """The rows of an assignment that aren't finished; the last batch is marked as such.

        Stops when the assignment is dropped. Raises StoreError.
        """
        shard = active.assignment.shard
        log = ShardLog(self.store, shard.index, self.plan.fingerprint)
        log.refresh()
        start, stop = active.assignment.rows or (0, shard.rows)
        committed = log.committed.copy()
        rows = [row for row in range(start, stop) if not committed.row_finished(row)]
        if not rows:
            yield Batch(active, log, None, last=True)
            return
        try:
            yield from self._made(active, log, committed, rows)
        finally:
            self.at = None

    def _made(
        self, active: ActiveAssignment, log: ShardLog, committed: CommittedRows, rows: list[int]
    ) -> Iterator[Batch]:
        shard = active.assignment.shard
        self.at = SampleKey(shard.index, rows[0], 0)
        self.reader = self.reader or self.plan.reader(self.options)
        input = self.plan.read(shard, self.options, self.reader)
        maker = _ShardMaker(self, active, committed, input)
        batch = Batch(active, log, maker.input)
        long = input.longer_than(_LONG_ROW, rows)
        for row in sorted(rows, key=lambda row: row in long):
            if active.dropped:
                return
            if row in long and batch.size:
                self.at = None
                yield batch
                batch = Batch(active, log, maker.input)
            self.at = SampleKey(shard.index, row, 0)
            maker.make(row, batch)
            if batch.size >= _SIZE:
                self.at = None  # the batch may wait long before it is taken
                yield batch
                batch = Batch(active, log, maker.input)
        self.at = None
        yield replace(batch, last=True)


class _ShardMaker:
    """Makes the rows of one shard."""

    def __init__(
        self, maker: RowMaker, active: ActiveAssignment, committed: CommittedRows, input: InputRows
    ) -> None:
        self.input = input
        self._maker = maker
        self._task = task_of(maker.job, maker.plan.choices)
        self._shard = active.shard
        self._failed = active.assignment.failed
        self._committed = committed
        self._snapshots = Snapshots(maker.store)
        self._saved = self._snapshots.of_shard(self._shard)

    def make(self, row: int, batch: Batch) -> None:
        """Adds a row to `batch`: its work, or an output row with the error why there is none."""
        prompts = self._maker.prompts
        label = RowLabel(
            self._shard, row, encodable(self.input.default_id(row)), place_of(self.input, row)
        )
        try:
            values = self.input.values(row)
            fault = self.input.faults.get(row)
            if fault is None or _is_named(prompts, values):
                own = prompts.row_id(values)
                label = label if own is None else replace(label, id=encodable(own))
            fault = fault or self._failed.get(row)
            if fault is not None:
                raise RowError(fault)
            work = self._task.work(label, values, prompts)
            self._maker.check_tokens(work[0].request.tokens, work[0].request.start)
            batch.work.extend(self._resumed(one) for one in work if not self._is_final(one.key))
        except (MemoryError, StoreError, OutputError):  # not the row's fault
            raise
        except Exception as error:  # any other exception fails this row only
            batch.refused.append(self._refusal(label, error_text(error)))

    def _is_final(self, key: SampleKey) -> bool:
        return self._committed.final(key.row, key.sample)

    def _resumed(self, work: RowWork) -> RowWork:
        """The work, continued from its newest snapshot that is usable."""
        if isinstance(work, TextWork) or (saved := self._load(work.key)) is None:
            return work
        return work.resumed(saved.snapshot, saved.notes)

    def _load(self, key: SampleKey) -> SavedSequence | None:
        """The newest snapshot that leaves no gap after what is published of the sample."""
        if key not in self._saved:
            return None
        published = self._committed.segments(key.row, key.sample)
        at_most = (published + 1) * self._maker.job.output.segment_tokens
        saved = self._snapshots.newest(key, at_most)
        usable = saved is not None and saved.notes["dtype"] == self._maker.dtype
        return saved if usable else None

    def _refusal(self, label: RowLabel, fault: str) -> OutputRow:
        """The output row that ends a row with an error, from its first sample that isn't final."""
        sample = 0
        while self._committed.final(label.row, sample):
            sample += 1
        return label.failed(fault, sample, self._committed.segments(label.row, sample))


def place_of(input: InputRows, row: int) -> str:
    """File and row of a shard's row, for messages."""
    name, number = input.origin(row)
    return f"{name}, row {number:,}"


def _is_named(prompts: Prompts, values: Row) -> bool:
    name = prompts.columns.id
    return name is not None and values[name] is not None
