"""The messages between the driver and its workers: assigned shards, and progress reports.

Layer 0. Plain immutable data.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from rgpipeline.records import SampleKey, Shard

# For UserError, StoreFullError, another StoreError, and anything else
Fault = Literal["user", "full", "store", "worker"]


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
    stopped: bool = False  # drained: all that can be published is
    error: str | None = None  # why the worker can't continue, for a person
    fault: Fault | None = None  # whose fault that error is
    raised_at: str = ""  # type and line of code, if it isn't an RgpipelineError
    in_engine: bool = False  # the engine raised it: a row in its slots may be the cause
    details: Mapping[str, float] = field(default_factory=dict)  # prefill_s, store_errors…
