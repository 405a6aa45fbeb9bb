"""How the driver starts workers' processes and calls them: an interface, free of Ray."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from rgpipeline.records import Assignment, Fault, WorkerReport


@dataclass(frozen=True, slots=True)
class WorkerLocation:
    """Where a worker's process runs."""

    node: str  # Ray's id of the node
    host: str
    pid: int


@dataclass(frozen=True, slots=True)
class Reply:
    """A worker's answer to `report`."""

    report: WorkerReport  # its `finished` without what the driver has seen
    begun: bool = True  # `begin` has reached it
    version: int = 0  # of the assignments that reached it last; 0: none has
    leaving: bool = False  # the driver, or its host, has told it to leave


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The worker did not answer; it may be alive."""


@dataclass(frozen=True, slots=True)
class StartError:
    """The worker's process raised an error when it was called, before its engine was open."""

    message: str
    fault: Fault


@dataclass(frozen=True, slots=True)
class Exited:
    """The worker's process has ended."""

    removed: bool  # its node went away, so nobody is to blame
    reason: str


class WorkerTransport(Protocol):
    """Starts processes with a worker in each, and calls them. No method waits."""

    def start(self, name: str, attempt: str) -> Any:
        """Starts a process as soon as there is room for it; returns its handle (`actor` below)."""

    def kill(self, actor: Any) -> None:
        """Ends the process, also one that is stopped or still waits for room."""

    def locate(self, actor: Any) -> "Future[WorkerLocation]":
        """Asks where it runs; answered once it has started."""

    def begin(self, actor: Any, node: str) -> "Future[None]":
        """Has it open its engine. Repeating this is harmless."""

    def report(self, actor: Any, seen: int) -> "Future[Reply]":
        """Asks for its report, without the first `seen` finished assignments."""

    def set_assignments(self, actor: Any, version: int, assignments: Sequence[Assignment]) -> None:
        """Sends all of its assignments. It ignores a version that is not above the last."""

    def drain(self, actor: Any) -> None:
        """Tells it to publish and leave. Repeating this is harmless."""

    def classify(self, error: BaseException, node: str) -> Unreachable | StartError | Exited:
        """What an error in place of an answer means."""
