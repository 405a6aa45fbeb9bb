"""The driver's logic: who works on what, what happens when they die, when all is done.

Layer 3, and pure: events in, commands out; no Ray, no clock, no I/O, so that a simulator can put
it through any night imaginable. `Dispatch` is the machine; `runtime` is the shell around it.
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
