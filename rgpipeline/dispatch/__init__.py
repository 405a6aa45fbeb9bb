"""The driver's logic: who works on what, what happens when they die, when all is done.

Layer 3, and pure: events in, commands out; no Ray, no clock, no I/O, so that a simulator can put
it through any night imaginable. `Dispatch` is the machine; `runtime` is the shell around it.
"""

from rgpipeline.dispatch.driver_messages import (
    Command,
    Died,
    Draining,
    DrainWorker,
    End,
    Event,
    Heard,
    Hold,
    KillWorker,
    Room,
    StartWorker,
    Stop,
    StoreFull,
    Tick,
    Up,
)
from rgpipeline.dispatch.failure_tracker import Policy
from rgpipeline.dispatch.state_machine import Dispatch
from rgpipeline.dispatch.work_queue import Work

__all__ = [
    "Command",
    "Died",
    "Dispatch",
    "DrainWorker",
    "Draining",
    "End",
    "Event",
    "Heard",
    "Hold",
    "KillWorker",
    "Policy",
    "Room",
    "StartWorker",
    "Stop",
    "StoreFull",
    "Tick",
    "Up",
    "Work",
]
