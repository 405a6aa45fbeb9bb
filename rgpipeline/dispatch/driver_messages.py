"""What the driver's machine is told, and what it answers.

Events carry the time they were noticed at, in seconds of any clock that never goes back.
Workers go by names that are used once: a replacement has a new one, so that whatever a dead
worker still says is nobody's.
"""

from dataclasses import dataclass
from typing import Literal

from rgpipeline.assignments import Assignment, WorkerReport

Loss = Literal[
    "crashed",  # its process died: what it worked on is suspected
    "removed",  # its node went away (spot, scaling down): nobody's fault
]


@dataclass(frozen=True, slots=True)
class WorkerStarted:
    """The worker's process runs; its engine is being opened."""

    now: float
    worker: str


@dataclass(frozen=True, slots=True)
class WorkerReported:
    """The worker said how it is; `report.finished` holds what is new since the last time."""

    now: float
    worker: str
    report: WorkerReport


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """The worker's process is no more."""

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
    """How many workers the job wants from now on: what was asked for, or what fits."""

    now: float
    workers: int


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The person wants an end: workers publish what is finished and leave."""

    now: float


@dataclass(frozen=True, slots=True)
class StoreFull:
    """The output's store takes no more, as the driver has found; `reason` says so in words."""

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
    """Start a worker by this name as soon as the cluster has room."""

    worker: str


@dataclass(frozen=True, slots=True)
class SetAssignments:
    """All that the worker is to hold from now on.

    It takes up what is new to it and drops what isn't named any more. Since it is the whole
    truth and no change, it may be lost, repeated, and overtaken by the next.
    """

    worker: str
    assignments: tuple[Assignment, ...]


@dataclass(frozen=True, slots=True)
class DrainWorker:
    """Let the worker publish what is finished, save what is long, and leave."""

    worker: str


@dataclass(frozen=True, slots=True)
class KillWorker:
    """Kill the worker's process; nothing it says is listened to any more."""

    worker: str
    reason: str


@dataclass(frozen=True, slots=True)
class JobEnded:
    """The job is over; always the last command."""

    outcome: Literal["finished", "stopped", "failed"]
    message: str = ""
    users_fault: bool = False


Command = StartWorker | SetAssignments | DrainWorker | KillWorker | JobEnded
