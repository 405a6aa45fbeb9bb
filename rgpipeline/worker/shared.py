"""The numbers a worker goes by."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rgpipeline.assignments import Assignment
from rgpipeline.io.log import ShardLog
from rgpipeline.io.shard_rows import InputRows
from rgpipeline.records import OutputRow, Request, SampleKey


@dataclass(frozen=True, slots=True)
class WorkerPolicy:
    """When things are published and saved, and how much may wait. Times in seconds."""

    part_bytes: int = 32 << 20  # rows gathered for one part, about
    part_s: float = 30.0  # a finished row waits no longer for others
    save_s: float = 1.0  # nor does a state to be saved: a death costs what came since
    refresh_s: float = 20.0  # between looks at what others have published of a held shard
    backlog_bytes: int = 256 << 20  # not yet published; beyond it the engine waits for the store
    ahead_bytes: int = 64 << 20  # prompts made ready before the engine wants them
    open_bytes: int = 256 << 20  # prompts and snapshots of rows in slots or waiting for one
    window: int = 8  # rows waiting for a slot at most, in rounds of the slots: longest go first
    snapshot_s: float = 600.0  # of work on one sequence that may be lost by a sudden death
    snapshot_tokens: int = 1024  # fewer are sooner generated again than saved and loaded
    snapshots_at_once: int = 4  # downloaded and not saved yet


Notes = dict[str, Any]  # what an `Assembly` needs to go on, as JSON


@dataclass(frozen=True, slots=True)
class ToGenerate:
    """One sample of one row."""

    key: SampleKey
    id: str
    samples: int  # of its row
    request: Request
    place: str  # file and row, for messages
    notes: Notes | None = None  # beside the request's snapshot

    @property
    def nbytes(self) -> int:
        """Host memory, about."""
        snapshot = self.request.snapshot
        saved = sum(array.nbytes for array in snapshot.arrays.values()) if snapshot else 0
        return self.request.tokens.nbytes + saved + 1024


@dataclass(frozen=True, slots=True)
class ToScore:
    """One text whose tokens from `first` on are to be scored; those before are given."""

    row: int
    id: str
    tokens: NDArray[np.int32]  # [n]
    first: int  # in [1, n)
    place: str
    each: bool = False  # log-probabilities of single tokens are wanted too

    @property
    def nbytes(self) -> int:
        """Host memory, about."""
        return self.tokens.nbytes


@dataclass(slots=True, eq=False)
class Held:
    """An assignment this worker holds. The worker's thread's; the feeder reads `dropped`, the
    publisher sets `dropped` and clears `closing`.
    """

    assignment: Assignment
    dropped: bool = False  # taken away, or all of it is in the log
    fed: bool = False  # all its rows have come from the feeder
    open: int = 0  # of these, samples and texts that are not finished
    opened: bool = False  # the publisher has its log and input
    closing: bool = False  # the publisher was asked to finish it
    rounds: int = 0  # times it was fed again, because its log lacked rows in the end


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of an assignment: in order, but for long ones, which come last."""

    held: Held
    log: ShardLog  # read when its rows were chosen; the publisher's from the first batch on
    input: InputRows | None  # of the whole shard; None when there is nothing to do
    generate: list[ToGenerate] = field(default_factory=list)
    score: list[ToScore] = field(default_factory=list)
    refused: list[OutputRow] = field(default_factory=list)
    last: bool = False  # of its assignment

    @property
    def size(self) -> int:
        """Samples, texts and refusals in it."""
        return len(self.generate) + len(self.score) + len(self.refused)

    @property
    def nbytes(self) -> int:
        """Host memory, about, beside the shard's input."""
        return sum(one.nbytes for one in self.generate) + sum(text.nbytes for text in self.score)


_shard: ContextVar[int | None] = ContextVar("shard", default=None)


@contextmanager
def in_hand(shard: int) -> Iterator[None]:
    """What this thread logs meanwhile is about that shard."""
    token = _shard.set(shard)
    try:
        yield
    finally:
        _shard.reset(token)


def shard_in_hand() -> int | None:
    """None when this thread is at no shard, or at several, as the engine's is."""
    return _shard.get()
