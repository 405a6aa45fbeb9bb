"""What the worker's parts hand to each other: rows made ready for the engine."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rgpipeline.io.log import ShardLog
from rgpipeline.io.shard_rows import InputRows
from rgpipeline.records import Assignment, OutputRow, Request, SampleKey

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
