"""What the worker's threads share: policy, assignments, batches of rows, events, log context."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from rgpipeline.io.committed_rows import CommittedRows
from rgpipeline.io.log import ShardLog
from rgpipeline.io.shard_rows import InputRows
from rgpipeline.records import Assignment, OutputRow
from rgpipeline.tasks.task import RowWork


@dataclass(frozen=True, slots=True)
class WorkerPolicy:
    """When output is published and states are saved, and how much may wait. Times in seconds."""

    part_bytes: int = 32 << 20  # rows gathered for one part, approximately
    part_s: float = 30.0  # a finished row waits no longer than this for others
    save_s: float = 1.0  # nor does a state to be saved: a death costs what came since
    refresh_s: float = 20.0  # between looks at what others have published of our shards
    backlog_bytes: int = 256 << 20  # not published yet; beyond it the engine waits for the store
    ahead_bytes: int = 64 << 20  # prompts made ready before the engine wants them
    open_bytes: int = 256 << 20  # prompts and snapshots of rows in slots or waiting for one
    window: int = 8  # rows that wait for a slot at most, in multiples of the slots: longest first
    snapshot_s: float = 600.0  # of work on one sequence that a sudden death may lose
    snapshot_tokens: int = 1024  # fewer are generated again sooner than saved and loaded
    snapshots_at_once: int = 4  # downloaded from the device and not saved yet


@dataclass(slots=True, eq=False)
class ActiveAssignment:
    """An assignment that this worker has.

    It belongs to the worker's thread. The feeder reads `dropped`; the publisher sets `dropped` and
    clears `closing`.
    """

    assignment: Assignment
    dropped: bool = False  # taken away, or the log has all of it
    fed: bool = False  # all its rows have come from the feeder
    open: int = 0  # of these, pieces of work that are not finished
    opened: bool = False  # the publisher has its log and input
    closing: bool = False  # the publisher was asked to finish it
    rounds: int = 0  # times that it was fed again because its log lacked rows in the end

    @property
    def shard(self) -> int:
        return self.assignment.shard.index


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of an assignment, in order; long rows come last."""

    active: ActiveAssignment
    log: ShardLog  # read when its rows were chosen; the publisher's from the first batch on
    input: InputRows | None  # of the whole shard; None when there is nothing to do
    work: list[RowWork] = field(default_factory=list)
    refused: list[OutputRow] = field(default_factory=list)
    last: bool = False  # of its assignment

    @property
    def size(self) -> int:
        """Pieces of work and refused rows in it."""
        return len(self.work) + len(self.refused)

    @property
    def nbytes(self) -> int:
        """Host memory, approximately, without the shard's input."""
        return sum(one.nbytes for one in self.work)


@dataclass(frozen=True, slots=True)
class PublishedByOthers:
    """Other workers have published rows of a shard."""

    shard: int
    committed: CommittedRows  # that its log has now


@dataclass(frozen=True, slots=True)
class Finished:
    """All rows of an assignment are finished."""

    active: ActiveAssignment


@dataclass(frozen=True, slots=True)
class Unfinished:
    """All our rows of an assignment are published, but some of its rows are not finished."""

    active: ActiveAssignment


PublisherEvent = PublishedByOthers | Finished | Unfinished


_shard: ContextVar[int | None] = ContextVar("shard", default=None)


@contextmanager
def log_context(shard: int) -> Iterator[None]:
    """Within it, this thread's log lines carry the shard's number."""
    token = _shard.set(shard)
    try:
        yield
    finally:
        _shard.reset(token)


def logged_shard() -> int | None:
    """The shard that this thread works on; None outside of `log_context`."""
    return _shard.get()
