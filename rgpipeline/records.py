"""The records that pass between layers, and the messages between the driver and its workers.

Layer 0. Plain immutable data; arrays are numpy. Plan → shard → requests → emissions → rows → part;
assigned shards and reports of progress.
"""

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rgpipeline.read_texts import ReadText
from rgpipeline.spec import Sampling

FinishReason = Literal["stop", "length", "error"]
# For UserError, StoreFullError, another StoreError, and anything else
Fault = Literal["user", "full", "store", "worker"]


@dataclass(frozen=True, slots=True)
class InputFile:
    """One input file, as it was when the plan was made."""

    path: str  # full fsspec URL
    name: str  # path relative to what the job named; makes the default ids
    size: int  # bytes
    version: str  # etag, or modification time where the store has none
    rows: int
    # Where reading may begin. JSON Lines, CSV: byte offset of every 1024th row. Arrow: for each
    # batch its first row, and its index or byte offset.
    marks: tuple[int, ...] = ()
    below: str | None = None  # path below what the job named; None in plans of older versions

    @property
    def partition_path(self) -> str:
        """The path whose folders' names are columns (Hive partitions)."""
        return self.path if self.below is None else self.below


@dataclass(frozen=True, slots=True)
class Span:
    """Rows [start, stop) of one input file (an index into `Plan.files`)."""

    file: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Shard:
    """The unit of work of a worker; its rows are numbered from 0 across its spans."""

    index: int
    spans: tuple[Span, ...]

    @property
    def rows(self) -> int:
        return sum(span.rows for span in self.spans)


class SampleKey(NamedTuple):
    """One sample of one row: the work of one slot."""

    shard: int
    row: int  # within the shard
    sample: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A sequence's whole state; any engine with the same settings can continue from it."""

    arrays: Mapping[str, NDArray[np.generic]]
    generated: int  # tokens sampled so far, all of them emitted


@dataclass(frozen=True, slots=True)
class Request:
    """One sequence to generate."""

    key: Hashable
    tokens: NDArray[np.int32]  # the prompt, [n], n >= 1; after `start`: its tail, and what follows
    sampling: Sampling
    draw: tuple[int, int]  # two 32-bit words that key every random draw, from `draw_words`
    snapshot: Snapshot | None = None  # continue from here; `tokens` is then only for penalties
    start: ReadText | None = None  # what was read before the prompt
    keep_read: bool = False  # emit what was read of the prompt
    in_turn: bool = False  # the prompt is a chat, and ends where the model's turn begins

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt alone, without those before it."""
        return len(self.tokens) - (len(self.start.tail) if self.start else 0)


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log-probabilities of emitted tokens, under the model's own distribution (temperature 1)."""

    sampled: NDArray[np.float32]  # [m]
    top_ids: NDArray[np.int32]  # [m, k], k = 0 unless the request asked for more than 1
    top: NDArray[np.float32]  # [m, k]


@dataclass(frozen=True, slots=True)
class Emission:
    """Tokens a sequence gained since its last emission, in order.

    `finish` is set on a sequence's last emission. `snapshot`, if one was requested, is
    the state after exactly these tokens. `read` is the prompt as it was read, on the first emission
    of a request with `keep_read`. The end-of-sequence or stop token itself is not emitted.
    """

    key: Hashable
    token_ids: NDArray[np.int32]  # [m]
    finish: FinishReason | None = None
    logprobs: TokenLogprobs | None = None
    snapshot: Snapshot | None = None
    read: ReadText | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class OutputRow:
    """One row of a part: a sample's (segment of a) completion, a task's result, or an error."""

    row: int  # within the shard
    id: str
    sample: int = 0
    samples: int = 1  # of the row in all; 1 for a row that failed as a whole
    segment: int = 0
    completion: str | None = None
    finish_reason: FinishReason | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0  # generated; of other tasks, read for the result
    error: str | None = None
    completion_ids: list[int] | None = None
    logprobs: str | list[float] | None = None
    state: str | None = None  # the address of its state at the end, if that is stored
    messages: Sequence[Mapping[str, str | None]] | None = None  # the chat, answered
    result: Any = None  # of a task without completions: what its columns are made from
    final: bool = True  # the sample's last segment


@dataclass(frozen=True, slots=True)
class ResolvedSettings:
    """How an engine is set up, with nothing left to `auto`; recorded once for a job."""

    dtype: Literal["float32", "bfloat16"]
    slots: int
    prefill_chunk: int  # tokens
    steps_per_dispatch: int | None  # None: each worker tunes its own; no bits depend on it
    quantize: Literal["none", "int8"] = "none"


def draw_words(seed: int, row_id: str, sample: int) -> tuple[int, int]:
    """The two 32-bit words that key every random draw of one sample of one row.

    SHA-256 of the three, so that rows with similar ids have unrelated draws; the token's position
    is the counter beside it. When and where a row runs has no effect.
    """
    text = f"{seed}\x00{sample}\x00{row_id}".encode("utf-8", "surrogatepass")
    digest = hashlib.sha256(text).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


@dataclass(frozen=True, slots=True)
class Assignment:
    """A shard for a worker to finish, or some of its rows; rows that are published are skipped.

    The same may be assigned again, or to several workers.
    """

    shard: Shard
    rows: tuple[int, int] | None = None  # [start, stop) within the shard; None: all
    failed: Mapping[int, str] = field(default_factory=dict)  # rows to publish with this error

    @property
    def key(self) -> "AssignmentKey":
        return AssignmentKey(self.shard.index, *(self.rows or (0, self.shard.rows)))


class AssignmentKey(NamedTuple):
    """Rows [start, stop) of a shard."""

    shard: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class ShardDone:
    """All assigned rows of a shard are published."""

    shard: int
    rows: int  # assigned rows, by whichever worker
    failed: int  # of these, rows with an error
    row_range: tuple[int, int] | None = None  # `Assignment.rows`


@dataclass(frozen=True, slots=True)
class PublishedTotals:
    """What a job has published at one moment, in this run and before."""

    rows: int = 0  # of the whole job
    shards: int = 0
    rows_done: int = 0  # final, without an error
    rows_failed: int = 0
    shards_finished: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """A worker's state when the driver asks for it; counters only grow."""

    progress_counter: int  # grows with every progress of engine or log: liveness
    finished: tuple[ShardDone, ...] = ()  # since the worker started, in order
    saved: int = 0  # parts and snapshots published, which no death undoes
    rows_done: int = 0
    rows_failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    slots: int = 0
    occupied: int = 0
    waiting: int = 0  # rows not yet in a slot
    working_on: tuple[SampleKey, ...] = ()  # what is in slots now; a poison row is among them
    latest_completion: str = ""  # the latest finished completion, for the ticker
    doing: str = ""  # a long step: reading weights, compiling a program
    warnings: tuple[str, ...] = ()  # what to know of the model, once it is open
    stopped: bool = False  # drained: all that can be published is
    error: str | None = None  # why the worker can't continue, for a person
    fault: Fault | None = None  # whose fault that error is
    raised_at: str = ""  # type and line of code, if it isn't an RgpipelineError
    in_engine: bool = False  # the engine raised it: a row in its slots may be the cause
    details: Mapping[str, float] = field(default_factory=dict)  # prefill_s, store_errors…
