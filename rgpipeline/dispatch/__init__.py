"""The driver's logic: which worker does what, what follows from failures, when the job ends.

Layer 4. Events in, commands out: no Ray, no clock, no I/O, so that a simulator can test it. The
state machine is `Dispatch`; `runtime` is the shell around it.
"""

from rgpipeline.dispatch.driver_messages import (
    Command,
    DesiredWorkers,
    DrainWorker,
    Event,
    JobEnded,
    KillWorker,
    SetAssignments,
    StartWorker,
    StopRequested,
    StoreFull,
    Tick,
    WorkerDied,
    WorkerDraining,
    WorkerReported,
    WorkerStarted,
)
from rgpipeline.dispatch.failure_tracker import Policy
from rgpipeline.dispatch.state_machine import Dispatch
from rgpipeline.dispatch.work_queue import WorkQueue

__all__ = [
    "Command",
    "DesiredWorkers",
    "Dispatch",
    "DrainWorker",
    "Event",
    "JobEnded",
    "KillWorker",
    "Policy",
    "SetAssignments",
    "StartWorker",
    "StopRequested",
    "StoreFull",
    "Tick",
    "WorkQueue",
    "WorkerDied",
    "WorkerDraining",
    "WorkerReported",
    "WorkerStarted",
]
