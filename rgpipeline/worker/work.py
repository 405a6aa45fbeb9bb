"""What the feeder hands to the worker: rows made ready for the engine."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


@dataclass(frozen=True, slots=True)
class ToScore:
    """One text whose tokens from `first` on are to be scored; those before are given."""

    row: int
    id: str
    tokens: NDArray[np.int32]  # [n]
    first: int  # in [1, n)
    place: str


@dataclass(slots=True, eq=False)
class Held:
    """An assignment this worker holds. Owned by the worker's thread; the feeder reads `dropped`."""

    assignment: Assignment
    dropped: bool = False
    fed: bool = False  # all its rows have come from the feeder
    open: int = 0  # of these, samples and texts that are not finished


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of an assignment, in order."""

    held: Held
    input: InputRows | None  # of the whole shard; None when there is nothing to do
    generate: list[ToGenerate] = field(default_factory=list)
    score: list[ToScore] = field(default_factory=list)
    refused: list[OutputRow] = field(default_factory=list)
    last: bool = False  # of its assignment
