"""The workers as the driver knows them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from rgpipeline.dispatch.work_queue import WorkUnit
from rgpipeline.records import AssignmentKey, WorkerReport

_START_S = 120.0  # a process starts within this time, where there is room for it


class Phase(Enum):
    """A worker's life, in order."""

    PENDING = "waiting for room in the cluster"
    STARTING = "its process runs, its engine is being opened"
    READY = "at work"
    LEAVING = "publishing what it has, then gone"


@dataclass(slots=True, eq=False)
class Member:
    """One worker of the fleet."""

    name: str
    since: float  # when it entered its phase
    phase: Phase = Phase.PENDING
    progress_at: float = 0.0  # when its progress counter last changed, or it was given work
    reported_at: float = 0.0
    report: WorkerReport = field(default_factory=lambda: WorkerReport(progress_counter=-1))
    assigned: dict[AssignmentKey, WorkUnit] = field(default_factory=dict)
    started_shards: frozenset[int] = frozenset()  # shards that have rows in its slots
    credited: int = 0  # of the rows it has published: those of finished units

    @property
    def outstanding(self) -> int:
        """Rows it still has to do, as far as known."""
        return max(0, self._assigned_rows - self.under_way)

    @property
    def under_way(self) -> int:
        """Rows done of units it has not finished, as far as known."""
        return min(self._assigned_rows, max(0, self.published - self.credited))

    @property
    def _assigned_rows(self) -> int:
        return sum(unit.left for unit in self.assigned.values())

    @property
    def published(self) -> int:
        """Rows it has published, failed ones among them."""
        return self.report.rows_done + self.report.rows_failed

    def credit(self, unit: WorkUnit) -> None:
        """A unit assigned to it is finished, by it or, in part, by others."""
        self.credited = min(self.credited + unit.left, self.published)

    @property
    def has_suspect(self) -> bool:
        """Whether a suspected unit is assigned to it: then it gets nothing else."""
        return any(unit.suspected for unit in self.assigned.values())

    def update(self, report: WorkerReport, now: float) -> None:
        """Keeps the worker's latest report; a changed counter is progress."""
        if report.progress_counter != self.report.progress_counter:
            self.progress_at = now
        self.reported_at = now
        self.report = report
        self.started_shards = frozenset(key.shard for key in report.working_on)


class Fleet:
    """All workers that have been started and are not gone."""

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._counts: Counter[Phase] = Counter()
        self._started = 0
        self.rows_done = 0  # by workers that are gone
        self.prompt_tokens = 0
        self.completion_tokens = 0

    def __iter__(self) -> Iterator[Member]:
        return iter(list(self._members.values()))

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def get(self, name: str) -> Member | None:
        return self._members.get(name)

    def count(self, *phases: Phase) -> int:
        """How many workers are in one of `phases`."""
        return sum(self._counts[phase] for phase in phases)

    @property
    def at_work(self) -> int:
        """How many workers have their engines open."""
        return self.count(Phase.READY, Phase.LEAVING)

    @property
    def opening(self) -> str:
        """What a worker does to open its engine; empty without any. All of them do the same."""
        doing = (m.report.doing for m in self if m.phase is Phase.STARTING)
        return next(filter(None, doing), "")

    @property
    def compiling(self) -> str:
        """Which program is being compiled, while all workers compile; else empty."""
        doing = [m.report.doing for m in self if m.phase is Phase.READY and m.assigned]
        return doing[0] if doing and all(doing) else ""

    def may_get_workers(self, now: float) -> bool:
        """Whether some worker is running, or may be soon."""
        return self.count(Phase.STARTING, Phase.READY) > 0 or any(
            member.phase is Phase.PENDING and now - member.since < _START_S for member in self
        )

    def at_work_before(self, time: float) -> bool:
        """Whether some worker that was at work before `time` still is."""
        return any(member.phase is Phase.READY and member.since < time for member in self)

    def add(self, now: float) -> Member:
        """A new worker, by a name that was never used."""
        member = Member(f"w{self._started}", since=now)
        self._started += 1
        self._members[member.name] = member
        self._counts[member.phase] += 1
        return member

    def enter(self, member: Member, phase: Phase, now: float) -> None:
        """The worker is in another phase from now on."""
        self._counts[member.phase] -= 1
        self._counts[phase] += 1
        member.phase = phase
        member.since = member.progress_at = member.reported_at = now

    def remove(self, member: Member) -> None:
        """Removes a worker that is gone; what it has done still counts."""
        del self._members[member.name]
        self._counts[member.phase] -= 1
        self.rows_done += member.report.rows_done
        self.prompt_tokens += member.report.prompt_tokens
        self.completion_tokens += member.report.completion_tokens
