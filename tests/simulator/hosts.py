"""Hosts that come and go, and processes on them that crash and hang."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from tests.simulator.invariants import PublishedRows
from tests.simulator.scenario import Scenario
from tests.simulator.store import MemoryStore
from tests.simulator.virtual_world import VirtualWorld
from tests.simulator.worker import SimWorker

_NOTICED_S = 3.0  # the longest it takes until the death of a host is known


class ProcessGoneError(Exception):
    """The process has ended."""


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
        self.cut_off = False  # its host is unreachable; the process goes on as a zombie
        self.begun = False
        self.busy = False
        self.version = 0
        self.leaving = False
        self.worker: SimWorker | None = None
        self.waiting: list[Future[Any]] = []  # calls that it has not answered


class Hosts:
    """All hosts and processes of one scenario."""

    def __init__(self, scenario: Scenario, world: VirtualWorld, published: PublishedRows) -> None:
        self._scenario = scenario
        self._world = world
        self._published = published
        self.objects: dict[str, bytes] = {}  # what is in the store
        self.hosts = [Host(f"h{i}") for i in range(scenario.hosts)]
        self.processes: list[Process] = []
        self.counts: Counter[str] = Counter()  # what went wrong

    @property
    def trouble(self) -> bool:
        """Whether failures still happen."""
        return self._world.now < self._scenario.trouble_s

    @property
    def room(self) -> int:
        return sum(host.up and not host.leaving for host in self.hosts)

    def leaving(self) -> set[str]:
        return {host.name for host in self.hosts if host.leaving}

    def store_for(self, alive: Callable[[], None]) -> MemoryStore:
        return MemoryStore(
            self.objects, self._scenario, self._world, self._published, alive, self.counts
        )

    def begin_trouble(self) -> None:
        """From now on hosts come and go, and processes crash and hang."""
        scenario = self._scenario
        for pause, fault in (
            (scenario.host_trouble_s, self._change_hosts),
            (scenario.crash_s, self._crash_one),
            (scenario.hang_s, self._hang_one),
        ):
            if pause:
                self._again(pause, fault)

    def start(self, name: str, attempt: str) -> Process:
        process = Process(name, attempt)
        self.processes.append(process)
        self._world.after(self._world.between(0.1, 1.0), self.place)
        return process

    def place(self) -> None:
        """Places processes that wait for a host, in their order."""
        taken = {process.host for process in self.processes if process.host and not process.dead}
        free = [h for h in self.hosts if h.up and not h.leaving and h not in taken]
        for process in self.processes:
            if free and process.host is None and not process.dead:
                process.host = free.pop(0)

    def end(self, process: Process) -> None:
        """The process dies now; the driver can know it a little later."""
        process.dead = True
        self._world.after(self._world.between(0.02, 0.5), lambda: self._notice(process))

    def cut_off(self, process: Process) -> None:
        """The process becomes unreachable, and goes on for a while as a zombie."""
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

    def _again(self, pause: float, fault: Callable[[], None]) -> None:
        def happen() -> None:
            if self.trouble:
                fault()
                self._again(pause, fault)

        self._world.after(self._world.random.expovariate(1 / pause), happen)

    def _change_hosts(self) -> None:
        world = self._world
        up = [host for host in self.hosts if host.up and not host.leaving]
        if len(up) <= 1 or world.chance(0.4):
            self.hosts.append(Host(f"h{len(self.hosts)}"))
            self.place()
            return
        host = world.random.choice(up)
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

    def _reachable(self) -> list[Process]:
        return [p for p in self.processes if p.host and not (p.dead or p.hung or p.cut_off)]

    def _crash_one(self) -> None:
        if alive := self._reachable():
            self.counts["crashes"] += 1
            self.end(self._world.random.choice(alive))

    def _hang_one(self) -> None:
        if alive := self._reachable():
            self.counts["hangs"] += 1
            self._world.random.choice(alive).hung = True
