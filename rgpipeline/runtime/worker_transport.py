"""How the driver starts and calls workers' processes: an interface, free of Ray."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from rgpipeline.assignments import Assignment, Fault, WorkerReport


@dataclass(frozen=True, slots=True)
class WorkerLocation:
    """Where a worker's process runs."""

    node: str  # Ray's id of it
    host: str
    pid: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What a worker answers whenever it is asked."""

    report: WorkerReport  # `finished` without what the driver has seen
    begun: bool = True  # it was told to begin
    holding: int = 0  # serial number of the last thing it was told to hold
    leaving: bool = False  # it was told to go, by us or by its host


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No answer, but the worker may well live."""


@dataclass(frozen=True, slots=True)
class StartError:
    """The worker's process can't do as it was told."""

    message: str
    fault: Fault


@dataclass(frozen=True, slots=True)
class Exited:
    """The worker's process is no more."""

    removed: bool  # with its node, which is nobody's fault
    reason: str


class WorkerTransport(Protocol):
    """Processes with a worker in each. No call waits for them."""

    def start(self, name: str, attempt: str) -> Any:
        """A process as soon as there is room for it; what it is called by."""

    def kill(self, actor: Any) -> None:
        """Ends it, also when it is stopped, or waits for room."""

    def locate(self, actor: Any) -> "Future[WorkerLocation]":
        """Where it runs."""

    def begin(self, actor: Any, node: str) -> "Future[None]":
        """Has it open its engine; again, it is harmless."""

    def report(self, actor: Any, seen: int) -> "Future[Reply]":
        """How it is, without the first `seen` finished assignments."""

    def set_assignments(self, actor: Any, serial: int, assignments: Sequence[Assignment]) -> None:
        """All that it is to hold; what has a smaller number than it has seen is overtaken."""

    def drain(self, actor: Any) -> None:
        """It shall publish and leave; again, it is harmless."""

    def classify(self, error: BaseException, node: str) -> Unreachable | StartError | Exited:
        """What an error in place of an answer means."""
