"""An assignment's rows, as work for the engine."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rgpipeline.errors import OutputError, RowError, StoreError
from rgpipeline.io.committed_rows import Cover
from rgpipeline.io.log import ShardLog
from rgpipeline.io.readers import Reader
from rgpipeline.io.shard_rows import InputRows
from rgpipeline.io.snapshots import SavedSequence, Snapshots
from rgpipeline.plan import Plan
from rgpipeline.records import OutputRow, Request, SampleKey, draw_words
from rgpipeline.spec import Job
from rgpipeline.storage.filesystems import StorageOptions
from rgpipeline.storage.store import Store
from rgpipeline.tasks.row_prompts import Prompt, Prompts, Row
from rgpipeline.wording import encodable
from rgpipeline.worker.shared import Batch, Held, ToGenerate, ToScore

# Bytes of a row that takes long to make ready: others of its assignment come first.
_LONG_ROW = 1 << 20

_SIZE = 32  # of a batch: few enough rows that the engine begins soon


@dataclass(slots=True)
class RowMaker:
    """Reads shards and makes their rows ready. One thread's."""

    job: Job
    plan: Plan
    store: Store
    options: StorageOptions
    prompts: Prompts
    check_tokens: Callable[[NDArray[np.int32]], None]  # raises RowError
    dtype: str  # of the engine's states; snapshots of another can't be gone on from
    at: SampleKey | None = None  # the row under way: what to suspect if this process dies
    reader: Reader | None = None  # kept, for the next shard is often the next in its file

    def batches(self, held: Held) -> Iterator[Batch]:
        """The rows of an assignment that its log doesn't cover; the last batch says so.

        Ends early once the assignment is dropped. Raises StoreError.
        """
        shard = held.assignment.shard
        log = ShardLog(self.store, shard.index, self.plan.fingerprint)
        log.refresh()
        start, stop = held.assignment.rows or (0, shard.rows)
        cover = log.cover.copy()
        rows = [row for row in range(start, stop) if not cover.row_finished(row)]
        if not rows:
            yield Batch(held, log, None, last=True)
            return
        try:
            yield from self._made(held, log, cover, rows)
        finally:
            self.at = None

    def _made(self, held: Held, log: ShardLog, cover: Cover, rows: list[int]) -> Iterator[Batch]:
        shard = held.assignment.shard
        self.at = SampleKey(shard.index, rows[0], 0)
        self.reader = self.reader or self.plan.reader(self.options)
        input = self.plan.read(shard, self.options, self.reader)
        maker = _ShardMaker(self, held, cover, input)
        batch = Batch(held, log, maker.input)
        long = input.longer_than(_LONG_ROW, rows)
        for row in sorted(rows, key=lambda row: row in long):
            if held.dropped:
                return
            if row in long and batch.size:
                self.at = None
                yield batch
                batch = Batch(held, log, maker.input)
            self.at = SampleKey(shard.index, row, 0)
            maker.make(row, batch)
            if batch.size >= _SIZE:
                self.at = None  # it may wait long before the next is wanted
                yield batch
                batch = Batch(held, log, maker.input)
        self.at = None
        yield replace(batch, last=True)


class _ShardMaker:
    """Makes the rows of one shard."""

    def __init__(self, maker: RowMaker, held: Held, cover: Cover, input: InputRows) -> None:
        self.input = input
        self._maker = maker
        self._shard = held.assignment.shard.index
        self._failed = held.assignment.failed
        self._cover = cover
        self._snapshots = Snapshots(maker.store)
        self._saved = self._snapshots.of_shard(self._shard)

    def make(self, row: int, batch: Batch) -> None:
        """Puts a row into `batch`: its samples, its text to score, or its refusal."""
        prompts, id = self._maker.prompts, encodable(self.input.default_id(row))
        try:
            values = self.input.values(row)
            fault = self.input.faults.get(row)
            if fault is None or _is_named(prompts, values):
                own = prompts.row_id(values)
                id = id if own is None else encodable(own)
            _require_none(fault)
            _require_none(self._failed.get(row))
            if self._maker.job.task == "score":
                batch.score.append(self._to_score(row, id, values))
            else:
                batch.generate.extend(self._samples(row, id, prompts.make(values)))
        except (MemoryError, StoreError, OutputError):  # not the row's doing
            raise
        except Exception as error:  # whatever a row does to us, it fails alone
            batch.refused.append(self._refusal(row, id, told(error)))

    def _samples(self, row: int, id: str, prompt: Prompt) -> Iterator[ToGenerate]:
        tokens = np.asarray(prompt.tokens, np.int32)
        self._maker.check_tokens(tokens)
        sampling, place = prompt.sampling, self._place(row)
        for sample in range(sampling.n):
            key = SampleKey(self._shard, row, sample)
            if self._cover.final(row, sample):
                continue
            saved = self._load(key)
            draw = draw_words(sampling.seed, id, sample)
            request = Request(key, tokens, sampling, draw, saved.snapshot if saved else None)
            notes = saved.notes if saved else None
            yield ToGenerate(key, id, sampling.n, request, place, notes)

    def _load(self, key: SampleKey) -> SavedSequence | None:
        """The newest snapshot that leaves no gap after what is published of the sample."""
        if key not in self._saved:
            return None
        published = self._cover.segments(key.row, key.sample)
        at_most = (published + 1) * self._maker.job.output.segment_tokens
        saved = self._snapshots.newest(key, at_most)
        usable = saved is not None and saved.notes["dtype"] == self._maker.dtype
        return saved if usable else None

    def _to_score(self, row: int, id: str, values: Row) -> ToScore:
        prompts = self._maker.prompts
        prompt = prompts.make(values)
        given = len(prompt.tokens) if prompts.columns.completion is not None else 1
        tokens = np.asarray([*prompt.tokens, *prompts.completion(values)], np.int32)
        self._maker.check_tokens(tokens)
        if len(tokens) <= given:
            raise RowError("there is nothing to score: no token follows the given ones")
        each = prompt.sampling.logprobs > 0
        return ToScore(row, id, tokens, given, self._place(row), each)

    def _refusal(self, row: int, id: str, fault: str) -> OutputRow:
        """The row that gives a row up as a whole, from its first sample that isn't final."""
        sample = 0
        while self._cover.final(row, sample):
            sample += 1
        segment = self._cover.segments(row, sample)
        error = placed(self._place(row), fault)
        return OutputRow(row, id, sample, 1, segment, finish_reason="error", error=error)

    def _place(self, row: int) -> str:
        return place_of(self.input, row)


def place_of(input: InputRows, row: int) -> str:
    """File and row of a shard's row, for messages."""
    name, number = input.place(row)
    return f"{name}, row {number:,}"


def placed(place: str, fault: str) -> str:
    """A row's `error`: its fault with file and row, unless the fault names the file itself."""
    return encodable(fault if place.rpartition(", row ")[0] in fault else f"{place}: {fault}")


def told(error: Exception) -> str:
    """An exception that a row has caused, in words: its type too, where it isn't ours."""
    return str(error) if isinstance(error, RowError) else f"{type(error).__name__}: {error}"


def _is_named(prompts: Prompts, values: Row) -> bool:
    name = prompts.columns.id
    return name is not None and values[name] is not None


def _require_none(fault: str | None) -> None:
    if fault is not None:
        raise RowError(fault)
