"""The load of a very large job on its driver: the real driver, simplified workers."""

import resource
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from rgpipeline.dispatch.driver_messages import (
    DesiredWorkers,
    JobEnded,
    KillWorker,
    SetAssignments,
    StartWorker,
    Tick,
)
from rgpipeline.dispatch.failure_tracker import Policy
from rgpipeline.dispatch.state_machine import Dispatch
from rgpipeline.dispatch.work_queue import WorkQueue
from rgpipeline.plan.planner import cut_shards, rows_of_a_shard
from rgpipeline.records import Assignment, SampleKey, ShardDone, WorkerReport
from rgpipeline.runtime.worker_pool import WorkerPool
from rgpipeline.runtime.worker_transport import (
    Exited,
    Reply,
    StartError,
    Unreachable,
    WorkerLocation,
)
from rgpipeline.spec import WorkersSpec
from tests.simulator.virtual_world import VirtualWorld

_SLOTS = 256
_ROW_S = 256 * _SLOTS / 13_000  # 256 tokens a row, at 13,000 a second and host, in 256 slots
_PART_S = 30.0  # between parts
_SPREAD = 0.1  # of hosts' speeds, up and down
_OPEN_S = 60.0


class OutlineWorker:
    """A worker that does its rows in order, at its own speed."""

    def __init__(self, world: VirtualWorld, rows_s: float) -> None:
        self._world = world
        self._rows_s = rows_s
        self._holds: list[Assignment] = []
        self._finished: list[ShardDone] = []
        self._at = 0.0  # rows of the first shard it holds
        self._looked = world.now
        self._opens = world.now + world.between(0.5, 1.5) * _OPEN_S
        self.version = 0
        self.done = 0.0
        self.parts = 0.0

    def set_assignments(self, version: int, assignments: Sequence[Assignment]) -> None:
        self._work()
        self.version = version
        known = {done.shard for done in self._finished}
        self._holds = [a for a in assignments if a.shard.index not in known]

    def reply(self, seen: int) -> Reply:
        self._work()
        is_open = self._world.now >= self._opens
        at = tuple(SampleKey(a.shard.index, 0, 0) for a in self._holds[:1])
        report = WorkerReport(
            progress_counter=int(self.done),
            finished=tuple(self._finished[seen:]), rows_done=int(self.done),
            slots=_SLOTS if is_open else 0, occupied=_SLOTS, working_on=at,
        )  # fmt: skip
        return Reply(report, version=self.version)

    def _work(self) -> None:
        seconds = self._world.now - max(self._looked, self._opens)
        self._looked = self._world.now
        rows = max(0.0, seconds) * self._rows_s
        self.parts += max(0.0, seconds) / _PART_S if self._holds else 0.0
        while self._holds and rows > 0:
            shard = self._holds[0].shard
            left = shard.rows - self._at
            step = min(left, rows)
            self._at, self.done, rows = self._at + step, self.done + step, rows - step
            if self._at >= shard.rows:
                self._finished.append(ShardDone(shard.index, shard.rows, 0))
                self._holds.pop(0)
                self._at = 0.0
                self.parts += 1


class OutlineTransport:
    """A `WorkerTransport` that answers every call at once."""

    def __init__(self, world: VirtualWorld) -> None:
        self._world = world
        self.workers: list[OutlineWorker] = []
        self.messages = 0

    def start(self, name: str, attempt: str) -> OutlineWorker:
        speed = _SLOTS / _ROW_S * self._world.between(1 - _SPREAD, 1 + _SPREAD)
        self.workers.append(OutlineWorker(self._world, speed))
        return self.workers[-1]

    def kill(self, actor: OutlineWorker) -> None:
        pass

    def locate(self, actor: OutlineWorker) -> "Future[WorkerLocation]":
        return self._answer(WorkerLocation("node", "host", 1))

    def begin(self, actor: OutlineWorker, node: str) -> "Future[None]":
        return self._answer(None)

    def report(self, actor: OutlineWorker, seen: int) -> "Future[Reply]":
        return self._answer(actor.reply(seen))

    def set_assignments(
        self, actor: OutlineWorker, version: int, assignments: Sequence[Assignment]
    ) -> None:
        self.messages += 1
        actor.set_assignments(version, assignments)

    def drain(self, actor: OutlineWorker) -> None:
        pass

    def classify(self, error: BaseException, node: str) -> Unreachable | StartError | Exited:
        raise AssertionError("nothing fails here")

    def _answer(self, value: Any) -> "Future[Any]":
        self.messages += 1
        future: Future[Any] = Future()
        future.set_result(value)
        return future


@dataclass(frozen=True)
class DriverLoad:
    """The measured load."""

    hosts: int
    rows: int
    shards: int
    virtual_s: float
    ideal_s: float
    driver_s: float  # real time in machine and pool
    events: int
    messages: int
    memory: int  # bytes
    store_calls: float

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.hosts:,} hosts, {self.rows:,} rows in {self.shards:,} shards",
                f"  makespan          {self.virtual_s:,.0f} s, ideal {self.ideal_s:,.0f} s "
                f"({self.ideal_s / self.virtual_s:.1%})",
                f"  driver's events   {self.events:,}: {self.events / self.virtual_s:,.0f} a "
                f"second come, {self.events / self.driver_s:,.0f} a second are possible",
                f"  driver is busy    {self.driver_s / self.virtual_s:.1%} of the time",
                f"  messages          {self.messages / self.virtual_s:,.0f} a second",
                f"  driver's memory   {self.memory / 2**20:,.0f} MiB",
                f"  store requests    {self.store_calls:,.0f}: "
                f"{self.store_calls / self.virtual_s:,.0f} a second, "
                f"{self.rows / self.store_calls:,.0f} rows each",
            ]
        )


def measure_load(hosts: int, rows: int) -> DriverLoad:
    """Simulates a large job in which nothing fails."""
    before = _memory()
    world = VirtualWorld(0)
    shards = cut_shards([rows], rows_of_a_shard(rows, WorkersSpec(count=hosts)))
    count = len(shards)
    actors = OutlineTransport(world)
    pool = WorkerPool(actors, world.clock)
    dispatch = Dispatch(WorkQueue(shards), Policy())
    driver_s, events, ended = 0.0, 0, False
    incoming: list[Any] = [DesiredWorkers(0.0, hosts)]
    while not ended:
        began = time.perf_counter()
        events += len(incoming)
        for event in incoming:
            for command in dispatch.handle(event):
                match command:
                    case StartWorker(name):
                        pool.start(name)
                    case SetAssignments(name, assignments):
                        pool.set_assignments(name, assignments)
                    case KillWorker(name):
                        pool.kill(name)
                    case JobEnded():
                        ended = True
        incoming = [Tick(world.now)] if int(world.now * 10) % 10 == 0 else []
        incoming += pool.events(0.0)
        driver_s += time.perf_counter() - began
        world.pass_time(0.1)
    ideal = rows / (hosts * _SLOTS / _ROW_S) + _OPEN_S
    parts = sum(worker.parts for worker in actors.workers)
    # A part is one put; a shard taken up is looked at once, from its first part that is missing.
    return DriverLoad(
        hosts, rows, count, world.now, ideal, driver_s, events, actors.messages,
        _memory() - before, parts + 2 * count,
    )  # fmt: skip


def _memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
