"""The records that pass between layers: plan → shard → requests → emissions → rows → part.

Layer 0. Plain immutable data; arrays are numpy.
"""

import hashlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rgpipeline.spec import Sampling

FinishReason = Literal["stop", "length", "error"]


@dataclass(frozen=True, slots=True)
class InputFile:
    """One input file, as it was when the plan was made."""

    path: str  # full fsspec URL
    name: str  # path relative to what the job named; makes the default ids
    size: int  # bytes
    version: str  # etag, or modification time where the store has none
    rows: int
    marks: tuple[int, ...] = ()  # JSON Lines: byte offset of every 1024th row, to begin there
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
    tokens: NDArray[np.int32]  # the prompt, [n], n >= 1
    sampling: Sampling
    draw: tuple[int, int]  # two 32-bit words that key every random draw, from `draw_words`
    snapshot: Snapshot | None = None  # continue from here; `tokens` is then only for penalties


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
    the state after exactly these tokens. The end-of-sequence or stop token itself is not emitted.
    """

    key: Hashable
    token_ids: NDArray[np.int32]  # [m]
    finish: FinishReason | None = None
    logprobs: TokenLogprobs | None = None
    snapshot: Snapshot | None = None
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
