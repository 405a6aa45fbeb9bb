"""The job's shards: waiting, assigned, finished; and which are suspected of killing workers."""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from rgpipeline.records import Assignment, AssignmentKey, Shard, ShardDone


@dataclass(slots=True, eq=False)
class WorkUnit:
    """A shard, or a range of its rows, that is not finished."""

    assignment: Assignment
    left: int  # rows to do, as far as known when it was first assigned; at least 1
    workers: set[str] = field(default_factory=set)  # names of those it is assigned to
    failures: int = 0  # deaths of workers that had it
    saved: int = 0  # parts and snapshots its worker had saved in all when it was assigned
    suspected: bool = False  # its worker gets nothing else meanwhile

    @property
    def key(self) -> AssignmentKey:
        return self.assignment.key


class WorkQueue:
    """All work units of a job, and how much of the job is done.

    A shard that was assigned to two workers that died is suspected. It is cut in halves, each
    done by a worker that has nothing else, so that the next death tells which half, down to a
    single row. The row is marked as poison when it has killed `failures_to_suspect` workers by
    itself and none of them saved any part of it: a row that takes days may outlive many workers.
    """

    def __init__(
        self,
        shards: Iterable[Shard],
        finished: Collection[ShardDone] = (),
        covered: Mapping[int, int] | None = None,
        failures_to_suspect: int = 2,
    ) -> None:
        """`finished`: shards that need nothing more; `covered`: rows done of some others."""
        self._failures_to_suspect = failures_to_suspect
        self._covered = dict(covered or {})
        self.rows_covered = sum(self._covered.values())  # of shards that are not finished
        done = {shard.shard for shard in finished}
        self._fresh = deque(shard for shard in shards if shard.index not in done)
        self._returned: deque[WorkUnit] = deque()
        self._suspects: deque[WorkUnit] = deque()
        self._open: dict[AssignmentKey, WorkUnit] = {}  # assigned once or more, not finished
        self._rotation: deque[AssignmentKey] = deque()  # the same, in the order of `candidates`
        self._ranges: dict[int, int] = {}  # open ranges of shards, where not 1
        self.shards_finished = len(finished)
        self.rows_finished = sum(shard.rows for shard in finished)
        self.rows_failed = sum(shard.failed for shard in finished)

    @property
    def done(self) -> bool:
        return not (self._fresh or self._open)

    @property
    def units_left(self) -> int:
        return len(self._fresh) + len(self._open)

    @property
    def waiting(self) -> int:
        """Units that are assigned to no worker."""
        return len(self._fresh) + sum(not unit.workers for unit in self._open.values())

    def take(self, idle: bool, fresh_first: bool = False) -> WorkUnit | None:
        """The next unit that is assigned to no worker; None when there is none.

        Args:
          idle: the worker has nothing else. Only such a worker is given a suspected unit.
          fresh_first: prefer a unit that no worker was lost with, to see whether rows matter.
        """
        if fresh_first and self._fresh and not self._suspects:
            return self._next_fresh()
        for queue in (self._suspects, self._returned) if idle else (self._returned,):
            while queue:
                unit = queue.popleft()
                if self.is_open(unit) and not unit.workers:
                    return unit
        return self._next_fresh() if self._fresh else None

    def _next_fresh(self) -> WorkUnit:
        shard = self._fresh.popleft()
        left = shard.rows - self._covered.get(shard.index, 0)
        return self._opened(WorkUnit(Assignment(shard), max(1, left)))

    def candidates(self, most: int = 64) -> Iterator[WorkUnit]:
        """Some unfinished units, other ones with each call: for a worker with too little to do."""
        for _ in range(min(most, len(self._rotation))):
            key = self._rotation.popleft()
            if key in self._open:
                self._rotation.append(key)
                yield self._open[key]

    def release(self, unit: WorkUnit, worker: str) -> None:
        """The unit is no longer assigned to `worker`; it waits again if it has no other worker."""
        unit.workers.discard(worker)
        if not unit.workers and self.is_open(unit):
            (self._suspects if unit.suspected else self._returned).append(unit)

    def finish(self, done: ShardDone) -> WorkUnit | None:
        """Notes that an assignment's rows are in the log; None when that was known."""
        key = AssignmentKey(done.shard, *(done.row_range or (0, done.rows)))
        unit = self._open.pop(key, None)
        if unit is None:
            return None
        self.rows_finished += key.rows
        self.rows_failed += done.failed
        others = self._ranges.pop(key.shard, 1) - 1
        if others:
            self._ranges[key.shard] = others
        else:
            self.shards_finished += 1
        self.rows_covered -= self._covered.pop(key.shard, 0)
        return unit

    def is_open(self, unit: WorkUnit) -> bool:
        """False once it is finished, or cut into others."""
        return self._open.get(unit.key) is unit

    def record_failure(
        self, unit: WorkUnit, reason: str, mark_poison: bool = True, saved: int = 0
    ) -> bool:
        """A worker died that had `unit`; True when other units have replaced it.

        Args:
          unit: one of the units assigned to the worker.
          reason: why a row that is marked as poison fails: its error in the output.
          mark_poison: whether a row may be marked as poison already.
          saved: parts and snapshots that the worker had saved in all.
        """
        if unit.suspected and unit.key.rows == 1 and saved > unit.saved:
            unit.failures, unit.suspected = 0, False  # part of it was done, so it can be done
            return False
        unit.failures += 1
        halving = unit.suspected and unit.key.rows > 1
        if unit.assignment.failed or unit.failures < (1 if halving else self._failures_to_suspect):
            return False
        if unit.suspected and not halving and not mark_poison:
            return False
        del self._open[unit.key]
        if unit.key.rows > 1:
            self._halve(unit)
        elif not unit.suspected:
            self._suspects.append(self._opened(WorkUnit(unit.assignment, 1, suspected=True)))
        else:
            shard, row = unit.assignment.shard, unit.key.start
            poison = Assignment(shard, (row, row + 1), {row: reason})
            self._returned.append(self._opened(WorkUnit(poison, 1)))
        return True

    def _halve(self, unit: WorkUnit) -> None:
        shard, start, stop = unit.key
        middle = (start + stop) // 2
        for rows in ((start, middle), (middle, stop)):
            half = Assignment(unit.assignment.shard, rows)
            self._suspects.append(self._opened(WorkUnit(half, rows[1] - rows[0], suspected=True)))
        self._ranges[shard] = self._ranges.get(shard, 1) + 1

    def _opened(self, unit: WorkUnit) -> WorkUnit:
        self._open[unit.key] = unit
        self._rotation.append(unit.key)
        return unit
