"""What the driver and its workers tell each other: shards assigned, and reports of progress.

Layer 0. Plain immutable data.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from rgpipeline.records import SampleKey, Shard

# UserError, StoreFullError, another StoreError, anything else
Fault = Literal["user", "full", "store", "worker"]


@dataclass(frozen=True, slots=True)
class Assignment:
    """A shard a worker is to finish, or some of its rows: what the log covers already is skipped.

    Assigning the same again is harmless, and so is assigning it to several workers.
    """

    shard: Shard
    rows: tuple[int, int] | None = None  # [start, stop) within the shard; None is all of them
    failed: Mapping[int, str] = field(default_factory=dict)  # rows to publish as errors, and why

    @property
    def key(self) -> "AssignmentKey":
        return AssignmentKey(self.shard.index, *(self.rows or (0, self.shard.rows)))


class AssignmentKey(NamedTuple):
    """Which rows of which shard: [start, stop)."""

    shard: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class ShardDone:
    """A shard's log covers all the rows that were assigned of it."""

    shard: int
    rows: int  # assigned rows, whoever published them
    failed: int  # of these, rows with an error
    row_range: tuple[int, int] | None = None  # `Assignment.rows`, as it was assigned


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What a worker says of itself, whenever asked; counters only ever grow."""

    progress_counter: int  # grows whenever the engine or the log made progress: liveness
    finished: tuple[ShardDone, ...] = ()  # since the worker started, in order
    saved: int = 0  # parts and snapshots it has published: no death undoes them
    rows_done: int = 0
    rows_failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    slots: int = 0
    occupied: int = 0
    waiting: int = 0  # rows admitted to no slot yet
    working_on: tuple[SampleKey, ...] = ()  # what is in slots now; a poison row is among them
    latest_completion: str = ""  # the latest finished completion, for the ticker
    doing: str = ""  # what takes long: weights being read, a program being compiled
    stopped: bool = False  # drained: everything publishable is published
    error: str | None = None  # the worker cannot go on: its message for a person
    fault: Fault | None = None  # whose fault that error is
    raised_at: str = ""  # type and line of code of an exception that isn't ours
    in_engine: bool = False  # the engine raised it, so a row in its slots may be to blame
    details: Mapping[str, float] = field(default_factory=dict)  # prefill_s, store_errors…
