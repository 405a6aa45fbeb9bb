"""The driver's workers: starts, asks, instructs and ends them.

What a worker answers becomes an event. Any message may be lost: a worker's next reply shows what
has reached it, and the rest is sent again.
"""

import heapq
import queue
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from rgpipeline.dispatch.driver_messages import (
    Event,
    Loss,
    WorkerDied,
    WorkerDraining,
    WorkerReported,
    WorkerStarted,
)
from rgpipeline.records import Assignment, WorkerReport
from rgpipeline.runtime.worker_transport import (
    Exited,
    Reply,
    StartError,
    Unreachable,
    WorkerLocation,
    WorkerTransport,
)

# A worker is asked for a report every 0.2 s where there are few, less often where there are many:
# 128 reports a second in all for up to some thousand workers, and 500 for ten thousand.
_REPORTS_PER_S = 128.0
_SHORTEST_S, _LONGEST_S = 0.2, 20.0
_UNREACHABLE_S = 2.0  # before one that could not be reached is asked again


@dataclass(slots=True, eq=False)
class WorkerHandle:
    """One worker, and what has been sent to it."""

    actor: Any
    node: str = ""  # empty until it has started
    host: str = ""
    seen: int = 0  # how many of its finished assignments are known
    version: int = 0  # of `assignments`
    assignments: tuple[Assignment, ...] = ()
    draining: bool = False  # it was told to leave
    leaving: bool = False  # it has said that it leaves


class WorkerPool:
    """All workers of one driver. Use it from one thread; answers come in by others."""

    def __init__(
        self, transport: WorkerTransport, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._id = uuid.uuid4().hex[:12]
        self._workers: dict[str, WorkerHandle] = {}
        self._due: list[tuple[float, str]] = []  # a heap: when to ask which worker
        self._answers: queue.SimpleQueue[tuple[str, Future[Any]]] = queue.SimpleQueue()

    def host_of(self, name: str) -> str:
        """The host that a worker runs on; empty until it is known."""
        worker = self._workers.get(name)
        return worker.host if worker is not None else ""

    def on_nodes(self, nodes: Collection[str]) -> list[str]:
        """Names of the workers on these nodes."""
        if not nodes:
            return []
        return [name for name, worker in self._workers.items() if worker.node in nodes]

    def start(self, name: str) -> None:
        """Starts a worker as soon as there is room for it."""
        worker = WorkerHandle(self._transport.start(name, f"{self._id}-{name}"))
        self._workers[name] = worker
        self._await(name, self._transport.locate(worker.actor))

    def set_assignments(self, name: str, assignments: Sequence[Assignment]) -> None:
        """Sends a worker all of its assignments."""
        worker = self._workers.get(name)
        if worker is not None:
            worker.assignments = tuple(assignments)
            worker.version += 1
            self._send_assignments(worker)

    def _send_assignments(self, worker: WorkerHandle) -> None:
        self._transport.set_assignments(worker.actor, worker.version, worker.assignments)

    def drain(self, name: str) -> None:
        """Tells a worker to publish and leave."""
        worker = self._workers.get(name)
        if worker is not None:
            worker.draining = True
            self._transport.drain(worker.actor)

    def kill(self, name: str) -> None:
        """Ends a worker's process, and ignores whatever it still says."""
        worker = self._workers.pop(name, None)
        if worker is not None:
            self._transport.kill(worker.actor)

    def kill_all(self) -> None:
        for name in list(self._workers):
            self.kill(name)

    def events(self, wait_s: float) -> list[Event]:
        """Events of workers since the last call; waits up to `wait_s` for the first."""
        self._ask_those_due()
        events: list[Event] = []
        try:
            answer = self._answers.get(block=wait_s > 0, timeout=wait_s)
            while True:
                events += self._handle_answer(*answer)
                answer = self._answers.get_nowait()
        except queue.Empty:
            return events

    def _ask_those_due(self) -> None:
        now = self._clock()
        while self._due and self._due[0][0] <= now:
            name = heapq.heappop(self._due)[1]
            worker = self._workers.get(name)
            if worker is not None and worker.node:
                self._await(name, self._transport.report(worker.actor, worker.seen))
            elif worker is not None:
                self._await(name, self._transport.locate(worker.actor))

    def _await(self, name: str, answer: "Future[Any]") -> None:
        answer.add_done_callback(lambda future: self._answers.put((name, future)))

    def _ask_in(self, name: str, pause_s: float) -> None:
        heapq.heappush(self._due, (self._clock() + pause_s, name))

    def _handle_answer(self, name: str, future: "Future[Any]") -> list[Event]:
        worker = self._workers.get(name)
        if worker is None:
            return []  # it was killed
        error = future.exception()
        if error is not None:
            return self._take_error(name, worker, error)
        match future.result():
            case WorkerLocation() as location:
                return self._take_location(name, worker, location)
            case Reply() as reply:
                return self._take_reply(name, worker, reply)
        return []

    def _take_location(
        self, name: str, worker: WorkerHandle, location: WorkerLocation
    ) -> list[Event]:
        worker.node, worker.host = location.node, location.host
        self._begin(name, worker)
        self._ask_in(name, 0.0)
        return [WorkerStarted(self._clock(), name)]

    def _begin(self, name: str, worker: WorkerHandle) -> None:
        def begun(future: "Future[None]") -> None:
            if future.exception() is not None:  # success shows in the next report
                self._answers.put((name, future))

        self._transport.begin(worker.actor, worker.node).add_done_callback(begun)

    def _take_reply(self, name: str, worker: WorkerHandle, reply: Reply) -> list[Event]:
        self._ask_in(name, self._report_pause())
        worker.seen += len(reply.report.finished)
        if not reply.begun:
            self._begin(name, worker)
        if reply.version < worker.version:
            self._send_assignments(worker)
        if worker.draining and not reply.leaving:
            self._transport.drain(worker.actor)
        now = self._clock()
        events: list[Event] = [WorkerReported(now, name, reply.report)]
        if reply.leaving and not worker.leaving:
            worker.leaving = True
            events.insert(0, WorkerDraining(now, name))
        return events

    def _report_pause(self) -> float:
        return min(max(_SHORTEST_S, len(self._workers) / _REPORTS_PER_S), _LONGEST_S)

    def _take_error(self, name: str, worker: WorkerHandle, error: BaseException) -> list[Event]:
        now = self._clock()
        match self._transport.classify(error, worker.node):
            case Unreachable():
                self._ask_in(name, _UNREACHABLE_S)
                return []
            case StartError(message, fault):
                self.kill(name)
                return [
                    WorkerReported(
                        now, name, WorkerReport(progress_counter=0, error=message, fault=fault)
                    )
                ]
            case Exited(removed, reason):
                del self._workers[name]
                where = f" on {worker.host}" if worker.host else ""
                loss: Loss = "removed" if removed else "crashed"
                return [WorkerDied(now, name, loss, f"its process{where} is gone: {reason}")]
