"""The job's shards: waiting, held, finished; and what is suspected of killing workers."""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from rgpipeline.records import Assignment, AssignmentKey, Shard, ShardDone


@dataclass(slots=True, eq=False)
class Unit:
    """A shard, or a range of its rows, that is not finished."""

    assignment: Assignment
    left: int  # rows to do, as far as known when it was taken; at least 1
    holders: set[str] = field(default_factory=set)
    strikes: int = 0  # deaths of workers that were at it
    saved: int = 0  # what its holder had saved in all when it was given it
    alone: bool = False  # suspected: its worker gets nothing else meanwhile

    @property
    def key(self) -> AssignmentKey:
        return self.assignment.key


class Work:
    """Everything there is to do, and how much of it is done.

    A shard that was being worked on when two workers died is suspected. It is cut in halves,
    each done by a worker that has nothing else, so that the next death tells which half; down
    to a single row, which is found guilty when it has killed `strikes` workers by itself, none
    of which saved any of it: a row that takes days may well outlive many workers.
    """

    def __init__(
        self,
        shards: Iterable[Shard],
        finished: Collection[ShardDone] = (),
        covered: Mapping[int, int] | None = None,
        strikes: int = 2,
    ) -> None:
        """`finished`: shards that need nothing more; `covered`: rows done of some others."""
        self._strikes = strikes
        self._covered = dict(covered or {})
        self.rows_covered = sum(self._covered.values())  # of shards that are not finished
        done = {shard.shard for shard in finished}
        self._fresh = deque(shard for shard in shards if shard.index not in done)
        self._returned: deque[Unit] = deque()
        self._suspects: deque[Unit] = deque()
        self._open: dict[AssignmentKey, Unit] = {}  # taken up once or more, not finished
        self._ring: deque[AssignmentKey] = deque()  # the same, in the order tails go round
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
        """Units that nobody holds."""
        return len(self._fresh) + sum(not unit.holders for unit in self._open.values())

    def take(self, alone: bool, fresh_first: bool = False) -> Unit | None:
        """The next unit that nobody holds; a suspected one only for a worker with nothing else.

        `fresh_first`: rather one that no worker was lost at, to see whether the rows matter.
        """
        if fresh_first and self._fresh and not self._suspects:
            return self._next_fresh()
        for queue in (self._suspects, self._returned) if alone else (self._returned,):
            while queue:
                unit = queue.popleft()
                if self.is_open(unit) and not unit.holders:
                    return unit
        return self._next_fresh() if self._fresh else None

    def _next_fresh(self) -> Unit:
        shard = self._fresh.popleft()
        left = shard.rows - self._covered.get(shard.index, 0)
        return self._opened(Unit(Assignment(shard), max(1, left)))

    def tail(self, looks: int = 64) -> Iterator[Unit]:
        """Some unfinished units, each time others: candidates for a worker with nothing to do."""
        for _ in range(min(looks, len(self._ring))):
            key = self._ring.popleft()
            if key in self._open:
                self._ring.append(key)
                yield self._open[key]

    def release(self, unit: Unit, worker: str) -> None:
        """`worker` has let go of `unit`; when nobody else holds it, it waits again."""
        unit.holders.discard(worker)
        if not unit.holders and self.is_open(unit):
            (self._suspects if unit.alone else self._returned).append(unit)

    def finish(self, done: ShardDone) -> Unit | None:
        """Notes that an assignment's rows are in the log; None when that was known."""
        key = AssignmentKey(done.shard, *(done.asked or (0, done.rows)))
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

    def is_open(self, unit: Unit) -> bool:
        """False once it is finished, or cut up."""
        return self._open.get(unit.key) is unit

    def strike(self, unit: Unit, reason: str, convict: bool = True, saved: int = 0) -> bool:
        """A worker died while it was at `unit`; True when others are open in its place now.

        `convict`: whether a row may be found guilty already. `saved`: what the worker had saved
        in all.
        """
        if unit.alone and unit.key.rows == 1 and saved > unit.saved:
            unit.strikes, unit.alone = 0, False  # part of it was done: so it can be done
            return False
        unit.strikes += 1
        halving = unit.alone and unit.key.rows > 1
        if unit.assignment.failed or unit.strikes < (1 if halving else self._strikes):
            return False
        if unit.alone and not halving and not convict:
            return False
        del self._open[unit.key]
        if unit.key.rows > 1:
            self._cut(unit)
        elif not unit.alone:
            self._suspects.append(self._opened(Unit(unit.assignment, 1, alone=True)))
        else:
            shard, row = unit.assignment.shard, unit.key.start
            convicted = Assignment(shard, (row, row + 1), {row: reason})
            self._returned.append(self._opened(Unit(convicted, 1)))
        return True

    def _cut(self, unit: Unit) -> None:
        shard, start, stop = unit.key
        middle = (start + stop) // 2
        for rows in ((start, middle), (middle, stop)):
            half = Assignment(unit.assignment.shard, rows)
            self._suspects.append(self._opened(Unit(half, rows[1] - rows[0], alone=True)))
        self._ranges[shard] = self._ranges.get(shard, 1) + 1

    def _opened(self, unit: Unit) -> Unit:
        self._open[unit.key] = unit
        self._ring.append(unit.key)
        return unit
