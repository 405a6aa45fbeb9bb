"""The events that the driver's state machine takes, and the commands that it answers.

Events carry the time at which they were noticed, in seconds of any clock that never goes back.
A worker's name is used once: its replacement has another, so that late messages of a dead worker
can't be taken for those of a living one.
"""

from dataclasses import dataclass
from typing import Literal

from rgpipeline.records import Assignment, WorkerReport

Loss = Literal[
    "crashed",  # its process died: the rows assigned to it are suspected
    "removed",  # its node went away (spot, scaling down): nobody is to blame
]


@dataclass(frozen=True, slots=True)
class WorkerStarted:
    """The worker's process runs; its engine is being opened."""

    now: float
    worker: str


@dataclass(frozen=True, slots=True)
class WorkerReported:
    """A worker's report; `report.finished` holds what is new since the one before."""

    now: float
    worker: str
    report: WorkerReport


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """The worker's process has ended."""

    now: float
    worker: str
    loss: Loss
    reason: str


@dataclass(frozen=True, slots=True)
class WorkerDraining:
    """The worker has been told to go (spot notice, SIGTERM): it publishes and leaves."""

    now: float
    worker: str


@dataclass(frozen=True, slots=True)
class DesiredWorkers:
    """How many workers the job wants from now on: its `count`, or as many as fit."""

    now: float
    workers: int


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Someone stops the job: workers publish what is finished and leave."""

    now: float


@dataclass(frozen=True, slots=True)
class StoreFull:
    """The driver could not write to the output's store, which is full; `reason` says so."""

    now: float
    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; sent about once a second."""

    now: float


Event = (
    WorkerStarted
    | WorkerReported
    | WorkerDied
    | WorkerDraining
    | DesiredWorkers
    | StopRequested
    | StoreFull
    | Tick
)


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Start a worker with this name as soon as the cluster has room."""

    worker: str


@dataclass(frozen=True, slots=True)
class SetAssignments:
    """All that is assigned to the worker from now on.

    The worker begins what is new to it and drops what is no longer named. Because the list is
    complete, the message may be lost, repeated, or overtaken by the next.
    """

    worker: str
    assignments: tuple[Assignment, ...]


@dataclass(frozen=True, slots=True)
class DrainWorker:
    """Have the worker publish what is finished, save snapshots of long rows, and leave."""

    worker: str


@dataclass(frozen=True, slots=True)
class KillWorker:
    """Kill the worker's process, and ignore whatever it still says."""

    worker: str
    reason: str


@dataclass(frozen=True, slots=True)
class JobEnded:
    """The job has ended; always the last command."""

    outcome: Literal["finished", "stopped", "failed"]
    message: str = ""
    users_fault: bool = False


Command = StartWorker | SetAssignments | DrainWorker | KillWorker | JobEnded
