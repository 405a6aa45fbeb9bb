"""The driver's state machine without workers: a test sends their events itself."""

from collections.abc import Sequence
from typing import Any, TypeVar

from rgpipeline.dispatch.driver_messages import (
    Command,
    DesiredWorkers,
    Event,
    SetAssignments,
    StartWorker,
    WorkerDied,
    WorkerReported,
    WorkerStarted,
)
from rgpipeline.dispatch.failure_tracker import Policy
from rgpipeline.dispatch.state_machine import Dispatch
from rgpipeline.dispatch.work_queue import WorkQueue
from rgpipeline.records import AssignmentKey, SampleKey, Shard, ShardDone, Span, WorkerReport

C = TypeVar("C")


def shards(count: int, rows: int = 16) -> list[Shard]:
    return [Shard(i, (Span(0, i * rows, (i + 1) * rows),)) for i in range(count)]


class DriverHarness:
    """The state machine, every command so far, and the current assignments of each worker."""

    def __init__(
        self, work: Sequence[Shard] | WorkQueue, workers: int = 2, policy: Policy | None = None
    ):
        policy = policy or Policy()
        if not isinstance(work, WorkQueue):
            work = WorkQueue(work, failures_to_suspect=policy.failures_to_suspect)
        self.dispatch = Dispatch(work, policy)
        self.now = 0.0
        self.assigned: dict[str, list[AssignmentKey]] = {}
        self.failed: dict[str, dict[AssignmentKey, list[int]]] = {}  # rows to give up
        self.commands: list[Command] = []
        self.reports: dict[str, int] = {}  # how many each worker has sent
        self.rows: dict[str, int] = {}  # done by each worker
        self.send(DesiredWorkers(self.now, workers))

    def send(self, event: Event) -> list[Command]:
        commands = self.dispatch.handle(event)
        for command in commands:
            if isinstance(command, SetAssignments):
                self.assigned[command.worker] = [a.key for a in command.assignments]
                self.failed[command.worker] = {a.key: list(a.failed) for a in command.assignments}
        self.commands += commands
        return commands

    def ready(self, *workers: str, slots: int = 8) -> None:
        for worker in workers:
            self.send(WorkerStarted(self.now, worker))
            self.report(worker, slots=slots)

    def report(
        self, worker: str, *, at: Sequence[tuple[int, int]] = (), slots: int = 8, **report: object
    ) -> list[Command]:
        """The worker reports, with `at` as the (shard, row)s in its slots."""
        number = self.reports[worker] = self.reports.get(worker, 0) + 1
        keys = tuple(SampleKey(shard, row, 0) for shard, row in at)
        fields: dict[str, Any] = {"slots": slots, "working_on": keys, **report}
        return self.send(WorkerReported(self.now, worker, WorkerReport(number, **fields)))

    def finishes(self, worker: str, key: AssignmentKey, failed: int = 0) -> list[Command]:
        whole = key.rows == 16
        done = ShardDone(key.shard, key.rows, failed, None if whole else (key.start, key.stop))
        self.rows[worker] = self.rows.get(worker, 0) + key.rows - failed
        return self.report(worker, finished=(done,), rows_done=self.rows[worker])

    def crashes(self, worker: str, reason: str = "killed") -> str:
        """The worker dies; the name of the one that replaces it."""
        commands = self.send(WorkerDied(self.now, worker, "crashed", reason))
        self.assigned.pop(worker, None)
        started = [c.worker for c in commands if isinstance(c, StartWorker)]
        return started[0] if started else ""

    def commands_of(self, kind: type[C]) -> list[C]:
        return [command for command in self.commands if isinstance(command, kind)]
