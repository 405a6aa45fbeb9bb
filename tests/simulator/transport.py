"""The simulated network: a `WorkerTransport` that delays and loses messages."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from rgpipeline.records import Assignment, WorkerReport
from rgpipeline.runtime.worker_transport import (
    Exited,
    Reply,
    StartError,
    Unreachable,
    WorkerLocation,
)
from tests.simulator.hosts import Hosts, Process, ProcessGoneError
from tests.simulator.scenario import Scenario
from tests.simulator.virtual_world import VirtualWorld
from tests.simulator.worker import Killed, SimWorker, step_s


class NoAnswerError(Exception):
    """The message, or its answer, was lost."""


class SimTransport:
    """The `WorkerTransport` of one driver. Its processes die with it."""

    def __init__(self, hosts: Hosts, scenario: Scenario, world: VirtualWorld) -> None:
        self._hosts = hosts
        self._scenario = scenario
        self._world = world
        self.own: list[Process] = []
        self.gone = False  # the driver has died

    def start(self, name: str, attempt: str) -> Process:
        process = self._hosts.start(name, attempt)
        self.own.append(process)
        return process

    def kill(self, actor: Process) -> None:
        if not actor.cut_off:
            self._world.after(self._delay(), lambda: self._hosts.end(actor))

    def locate(self, actor: Process) -> Future[WorkerLocation]:
        return self._ask(
            actor, lambda: WorkerLocation(actor.host.name if actor.host else "", "host", 1)
        )

    def begin(self, actor: Process, node: str) -> Future[None]:
        return self._ask(actor, lambda: self._begin(actor))

    def report(self, actor: Process, seen: int) -> Future[Reply]:
        return self._ask(actor, lambda: self._reply(actor, seen))

    def set_assignments(
        self, actor: Process, version: int, assignments: Sequence[Assignment]
    ) -> None:
        def arrive() -> None:
            if actor.worker is not None and version > actor.version:
                actor.version = version
                actor.worker.set_assignments(assignments)

        self._send(actor, arrive)

    def drain(self, actor: Process) -> None:
        def arrive() -> None:
            actor.leaving = True
            if actor.worker is not None:
                actor.worker.drain()

        self._send(actor, arrive)

    def classify(self, error: BaseException, node: str) -> Unreachable | StartError | Exited:
        if isinstance(error, NoAnswerError):
            return Unreachable()
        host = next((host for host in self._hosts.hosts if host.name == node), None)
        return Exited(removed=host is not None and not host.up, reason="the process is gone")

    def die(self) -> None:
        """The driver dies, and its processes with it, some of them late."""
        self.gone = True
        for process in self.own:
            if self._world.chance(0.3) and not process.dead:
                self._hosts.cut_off(process)
            else:
                self._hosts.end(process)

    def _ask(self, actor: Process, answer: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        if actor.known_dead:
            future.set_exception(ProcessGoneError())
            return future
        actor.waiting.append(future)
        if self._lost():
            self._world.after(2.0, lambda: self._answer(actor, future, _no_answer))
        else:
            self._world.after(self._delay(), lambda: self._arrive(actor, future, answer))
        return future

    def _arrive(self, actor: Process, future: Future[Any], answer: Callable[[], Any]) -> None:
        if actor.host is None and not actor.dead:
            self._world.after(0.5, lambda: self._arrive(actor, future, answer))
        elif not (actor.dead or actor.hung or actor.cut_off):
            self._answer(actor, future, answer)

    def _answer(self, actor: Process, future: Future[Any], answer: Callable[[], Any]) -> None:
        if future in actor.waiting:
            actor.waiting.remove(future)
            try:
                future.set_result(answer())
            except NoAnswerError as error:
                future.set_exception(error)

    def _send(self, actor: Process, arrive: Callable[[], None]) -> None:
        def deliver() -> None:
            if not (actor.dead or actor.hung or actor.cut_off):
                arrive()

        if not self._lost():
            self._world.after(self._delay(), deliver)

    def _begin(self, actor: Process) -> None:
        if actor.begun:
            return
        actor.begun = True

        def alive() -> None:
            if actor.dead:
                raise Killed

        store = self._hosts.store_for(alive)

        def poisoned() -> None:
            self._hosts.counts["deaths by poison"] += 1
            self._hosts.end(actor)
            raise Killed

        actor.worker = SimWorker(self._scenario, self._world, store, actor.attempt, poisoned)
        if actor.leaving:
            actor.worker.drain()
        self._world.after(self._world.between(0.5, 3.0), lambda: self._open(actor))

    def _open(self, actor: Process) -> None:
        worker = actor.worker
        assert worker is not None
        if self._hosts.trouble and self._world.chance(self._scenario.cannot_open):
            worker.error = "the engine did not open"
            return
        worker.open = True
        self._step(actor)

    def _step(self, actor: Process) -> None:
        worker = actor.worker
        assert worker is not None
        if actor.dead or worker.stopped or worker.error:
            return
        if not actor.hung:
            try:
                worker.step()
            except Killed:
                return
        pause = step_s(self._scenario) * self._world.between(0.5, 1.5)
        self._world.after(pause, lambda: self._step(actor))

    def _reply(self, actor: Process, seen: int) -> Reply:
        worker = actor.worker
        if worker is None:
            return Reply(WorkerReport(progress_counter=-1), begun=False, leaving=actor.leaving)
        report = worker.report()
        fresh = replace(report, finished=report.finished[seen:])
        return Reply(fresh, True, actor.version, actor.leaving)

    def _lost(self) -> bool:
        lost = self._hosts.trouble and self._world.chance(self._scenario.lost)
        self._hosts.counts["messages lost"] += lost
        return lost

    def _delay(self) -> float:
        return self._world.between(0.001, self._scenario.slow_s if self._hosts.trouble else 0.05)


def _no_answer() -> Any:
    raise NoAnswerError
