"""Hosts, processes on them, and a network in between, behind `runtime.pool.WorkerTransport`."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from rgpipeline.assignments import Assignment, WorkerReport
from rgpipeline.runtime.worker_transport import (
    Exited,
    Reply,
    StartError,
    Unreachable,
    WorkerLocation,
)
from tests.simulator.books import Books
from tests.simulator.night import Night
from tests.simulator.store import MemoryStore
from tests.simulator.worker import Killed, SimWorker, step_s
from tests.simulator.world import World

_NOTICED_S = 3.0  # the longest it takes until the death of a host is known


class NoAnswerError(Exception):
    """The message, or its answer, was lost."""


class ProcessGoneError(Exception):
    """There is no such process any more."""


@dataclass(eq=False)
class Host:
    """A host for one process."""

    name: str
    up: bool = True
    leaving: bool = False


class Process:
    """One worker's process: waiting for room, alive, hung, a zombie, or dead."""

    def __init__(self, name: str, attempt: str) -> None:
        self.name = name
        self.attempt = attempt
        self.host: Host | None = None
        self.dead = False
        self.known_dead = False
        self.hung = False
        self.cut_off = False  # its host is gone to the world; it works on
        self.begun = False
        self.busy = False
        self.version = 0
        self.leaving = False
        self.worker: SimWorker | None = None
        self.waiting: list[Future[Any]] = []  # answers that are owed


class Hosts:
    """All hosts and processes of one night."""

    def __init__(self, night: Night, world: World, books: Books) -> None:
        self._night = night
        self._world = world
        self._books = books
        self.objects: dict[str, bytes] = {}  # what is in the store
        self.hosts = [Host(f"h{i}") for i in range(night.hosts)]
        self.processes: list[Process] = []
        self.counts: Counter[str] = Counter()  # what went wrong

    @property
    def trouble(self) -> bool:
        """Whether things go wrong yet."""
        return self._world.now < self._night.trouble_s

    @property
    def room(self) -> int:
        return sum(host.up and not host.leaving for host in self.hosts)

    def leaving(self) -> set[str]:
        return {host.name for host in self.hosts if host.leaving}

    def store_for(self, alive: Callable[[], None]) -> MemoryStore:
        return MemoryStore(self.objects, self._night, self._world, self._books, alive, self.counts)

    def begin_trouble(self) -> None:
        """Hosts come and go, processes crash and hang, from now on."""
        night = self._night
        for pause, mishap in (
            (night.host_trouble_s, self._change_hosts),
            (night.crash_s, self._crash_one),
            (night.hang_s, self._hang_one),
        ):
            if pause:
                self._again(pause, mishap)

    def start(self, name: str, attempt: str) -> Process:
        process = Process(name, attempt)
        self.processes.append(process)
        self._world.after(self._world.between(0.1, 1.0), self.place)
        return process

    def place(self) -> None:
        """Gives room to processes that wait for it, in their order."""
        taken = {process.host for process in self.processes if process.host and not process.dead}
        free = [h for h in self.hosts if h.up and not h.leaving and h not in taken]
        for process in self.processes:
            if free and process.host is None and not process.dead:
                process.host = free.pop(0)

    def end(self, process: Process) -> None:
        """The process dies now; that it did is known a little later."""
        process.dead = True
        self._world.after(self._world.between(0.02, 0.5), lambda: self._notice(process))

    def cut_off(self, process: Process) -> None:
        """The world loses sight of the process, which lives on for a while as a zombie."""
        self.counts["zombies"] += 1
        process.cut_off = True
        self._world.after(self._world.between(0.5, _NOTICED_S), lambda: self._notice(process))
        self._world.after(self._world.between(1.0, 60.0), lambda: self.end(process))

    def _notice(self, process: Process) -> None:
        process.known_dead = True
        for future in process.waiting:
            if not future.done():
                future.set_exception(ProcessGoneError())
        process.waiting.clear()
        self.place()

    def _again(self, pause: float, mishap: Callable[[], None]) -> None:
        def happen() -> None:
            if self.trouble:
                mishap()
                self._again(pause, mishap)

        self._world.after(self._world.dice.expovariate(1 / pause), happen)

    def _change_hosts(self) -> None:
        world = self._world
        up = [host for host in self.hosts if host.up and not host.leaving]
        if len(up) <= 1 or world.chance(0.4):
            self.hosts.append(Host(f"h{len(self.hosts)}"))
            self.place()
            return
        host = world.dice.choice(up)
        if world.chance(0.5):
            self.counts["drains"] += 1
            host.leaving = True
            world.after(world.between(1.0, 30.0), lambda: self._lose(host))
        else:
            self._lose(host)

    def _lose(self, host: Host) -> None:
        host.up = False
        for process in self.processes:
            if process.host is host and not process.dead:
                self.cut_off(process)

    def _at_large(self) -> list[Process]:
        return [p for p in self.processes if p.host and not (p.dead or p.hung or p.cut_off)]

    def _crash_one(self) -> None:
        if alive := self._at_large():
            self.counts["crashes"] += 1
            self.end(self._world.dice.choice(alive))

    def _hang_one(self) -> None:
        if alive := self._at_large():
            self.counts["hangs"] += 1
            self._world.dice.choice(alive).hung = True


class SimTransport:
    """`runtime.pool.WorkerTransport` of one driver. Its processes die with it."""

    def __init__(self, hosts: Hosts, night: Night, world: World) -> None:
        self._hosts = hosts
        self._night = night
        self._world = world
        self.own: list[Process] = []
        self.gone = False  # the driver is: nothing is sent any more

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
        """The driver's end: its processes go too, some of them late."""
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

        actor.worker = SimWorker(self._night, self._world, store, actor.attempt, poisoned)
        if actor.leaving:
            actor.worker.drain()
        self._world.after(self._world.between(0.5, 3.0), lambda: self._open(actor))

    def _open(self, actor: Process) -> None:
        worker = actor.worker
        assert worker is not None
        if self._hosts.trouble and self._world.chance(self._night.cannot_open):
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
        pause = step_s(self._night) * self._world.between(0.5, 1.5)
        self._world.after(pause, lambda: self._step(actor))

    def _reply(self, actor: Process, seen: int) -> Reply:
        worker = actor.worker
        if worker is None:
            return Reply(WorkerReport(progress_counter=-1), begun=False, leaving=actor.leaving)
        report = worker.report()
        fresh = replace(report, finished=report.finished[seen:])
        return Reply(fresh, True, actor.version, actor.leaving)

    def _lost(self) -> bool:
        lost = self._hosts.trouble and self._world.chance(self._night.lost)
        self._hosts.counts["messages lost"] += lost
        return lost

    def _delay(self) -> float:
        return self._world.between(0.001, self._night.slow_s if self._hosts.trouble else 0.05)


def _no_answer() -> Any:
    raise NoAnswerError
