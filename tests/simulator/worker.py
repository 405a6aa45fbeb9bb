"""A worker that does as the real one is told to, over the real log."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rgpipeline.errors import StoreError
from rgpipeline.io.log import ShardLog
from rgpipeline.records import (
    Assignment,
    AssignmentKey,
    OutputRow,
    SampleKey,
    ShardDone,
    WorkerReport,
)
from rgpipeline.storage.retries import Retry
from rgpipeline.storage.store import RetryingStore
from tests.simulator.scenario import Scenario
from tests.simulator.store import MemoryStore, encode_part
from tests.simulator.virtual_world import VirtualWorld

_STORE_DEADLINE_S = 30.0


class Killed(BaseException):
    """The process died in the middle of what it was doing."""


@dataclass(eq=False)
class Task:
    """One assignment, as far as it is."""

    assignment: Assignment
    todo: list[SampleKey] = field(default_factory=list)
    buffered: list[OutputRow] = field(default_factory=list)
    begun: bool = False


class SimWorker:
    """The worker's thread, one step at a time; reports and holds come in between."""

    def __init__(
        self, scenario: Scenario, world: VirtualWorld, store: MemoryStore, attempt: str,
        poisoned: Callable[[], None],
    ) -> None:  # fmt: skip
        """`poisoned` is called when a poison row is taken up: it ends the process."""
        self._scenario = scenario
        self._world = world
        retry = Retry(
            _STORE_DEADLINE_S, 0.2, 4.0, world.clock, world.pass_time, world.random.random
        )
        self._store = RetryingStore(store, retry)
        self._attempt = attempt
        self._poisoned = poisoned
        self._wanted: Sequence[Assignment] | None = None
        self._tasks: dict[AssignmentKey, Task] = {}
        self._logs: dict[int, ShardLog] = {}
        self._slots: dict[SampleKey, Task] = {}
        self._finished: list[ShardDone] = []
        self._done = self._failed = 0
        self._beat = self._saved = 0
        self._draining = False
        self.open = False
        self.stopped = False
        self.error: str | None = None

    def set_assignments(self, assignments: Sequence[Assignment]) -> None:
        self._wanted = assignments

    def drain(self) -> None:
        self._draining = True

    def report(self) -> WorkerReport:
        return WorkerReport(
            progress_counter=self._beat,
            finished=tuple(self._finished),
            rows_done=self._done,
            rows_failed=self._failed,
            saved=self._saved,
            slots=self._scenario.slots if self.open else 0,
            occupied=len(self._slots),
            working_on=tuple(self._slots),
            stopped=self.stopped,
            error=self.error,
            fault="store" if self.error else None,
        )

    def step(self) -> None:
        """Takes up what it was told, works on what is in its slots, publishes now and then."""
        try:
            if self._draining:
                for task in list(self._tasks.values()):
                    self._publish(task)
                self.stopped = True
                return
            self._take_up()
            self._fill_slots()
            self._work()
            for task in list(self._tasks.values()):
                idle = not task.todo and task not in self._slots.values()
                if task.begun and (idle or (task.buffered and self._world.chance(0.2))):
                    self._publish(task)
                    self._finish_if_done(task)
        except StoreError as error:
            self.error = str(error)

    def _take_up(self) -> None:
        wanted, self._wanted = self._wanted, None
        if wanted is None:
            return
        by_key = {assignment.key: assignment for assignment in wanted}
        for key, task in list(self._tasks.items()):
            if by_key.get(key) != task.assignment:
                del self._tasks[key]
                self._slots = {k: t for k, t in self._slots.items() if t is not task}
        for key, assignment in by_key.items():
            if key not in self._tasks:
                self._tasks[key] = Task(assignment)

    def _fill_slots(self) -> None:
        for task in list(self._tasks.values()):
            if len(self._slots) >= self._scenario.slots:
                return
            if not task.begun:
                self._begin(task)
            while task.todo and len(self._slots) < self._scenario.slots:
                key = task.todo.pop(0)
                self._slots[key] = task
                if (key.shard, key.row) in self._scenario.poison:
                    self._poisoned()

    def _begin(self, task: Task) -> None:
        log = self._logs.setdefault(
            task.assignment.shard.index, ShardLog(self._store, task.assignment.shard.index)
        )
        log.refresh()
        self._feed(task)
        task.begun = True
        self._finish_if_done(task)

    def _feed(self, task: Task) -> None:
        shard, start, stop = task.assignment.key
        cover = self._logs[shard].committed
        for row in range(start, stop):
            if cover.row_finished(row):
                continue
            if row in task.assignment.failed:
                reason = task.assignment.failed[row]
                task.buffered.append(OutputRow(row, "", finish_reason="error", error=reason))
                continue
            samples, _ = shape_of(self._scenario.seed, shard, row)
            task.todo += [
                SampleKey(shard, row, s) for s in range(samples) if not cover.final(row, s)
            ]

    def _work(self) -> None:
        for key, task in list(self._slots.items()):
            if not self._world.chance(min(1.0, step_s(self._scenario) / self._scenario.row_s)):
                continue
            self._beat += 1
            samples, segments = shape_of(self._scenario.seed, key.shard, key.row)
            segment = self._next_segment(key, task)
            last = segment >= segments - 1
            task.buffered.append(
                OutputRow(
                    key.row, "", key.sample, samples, segment,
                    finish_reason="stop" if last else None, final=last,
                )
            )  # fmt: skip
            if last:
                del self._slots[key]

    def _next_segment(self, key: SampleKey, task: Task) -> int:
        published = self._logs[key.shard].committed.segments(key.row, key.sample)
        ours = [r.segment for r in task.buffered if (r.row, r.sample) == (key.row, key.sample)]
        return max([published, *(segment + 1 for segment in ours)])

    def _publish(self, task: Task) -> None:
        shard = task.assignment.shard.index
        rows, task.buffered = task.buffered, []
        if not rows or shard not in self._logs:
            return
        cover = self._logs[shard].committed
        before, failed = cover.rows_finished, cover.rows_failed
        published = self._logs[shard].append(rows, lambda kept, _: encode_part(kept, self._attempt))
        self._beat += 1
        self._saved += bool(published)
        self._failed += cover.rows_failed - failed
        self._done += (cover.rows_finished - before) - (cover.rows_failed - failed)
        self._slots = {k: t for k, t in self._slots.items() if not self._final(k)}
        task.todo = [key for key in task.todo if not self._final(key)]

    def _final(self, key: SampleKey) -> bool:
        return self._logs[key.shard].committed.final(key.row, key.sample)

    def _finish_if_done(self, task: Task) -> None:
        if task.todo or task.buffered or task in self._slots.values():
            return
        if self._tasks.get(task.assignment.key) is not task:
            return
        shard, start, stop = task.assignment.key
        cover = self._logs[shard].committed
        if not all(cover.row_finished(row) for row in range(start, stop)):
            self._feed(task)  # others published what changed what ours could add
            return
        failed = sum(cover.row_failed(row) for row in range(start, stop))
        done = ShardDone(shard, stop - start, failed, task.assignment.rows)
        self._finished.append(done)
        self._beat += 1
        del self._tasks[task.assignment.key]


def step_s(scenario: Scenario) -> float:
    """Between two steps of a worker."""
    return scenario.row_s / 2


def shape_of(seed: int, shard: int, row: int) -> tuple[int, int]:
    """(samples, segments of each) of a row: as pure a function as the model is."""
    byte = hashlib.blake2b(f"{seed} {shard} {row}".encode(), digest_size=1).digest()[0]
    return 1 + (byte % 4 == 0), 1 + (byte // 4 % 5 == 0) + (byte // 4 % 7 == 0)
