"""What must always hold: no row is published twice, and the driver loses no work unit."""

import json
from collections.abc import Sequence

from rgpipeline.dispatch.driver_messages import Command, SetAssignments
from rgpipeline.dispatch.state_machine import Dispatch
from rgpipeline.io.parts import parse_part_name
from rgpipeline.records import Shard

IN_PROGRESS, FAILED = 0, 2


class InvariantBroken(BaseException):
    """An invariant does not hold. It is no `Exception`, so that nothing on the way handles it."""


class PublishedRows:
    """Every sample of every row, segment by segment, from the parts; independent of `io.log`."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._rows = {shard.index: shard.rows for shard in shards}
        self._parts: dict[tuple[int, int], list[list[int]]] = {}  # entries by shard and part
        self._segments: dict[tuple[int, int, int], set[int]] = {}
        self._last: dict[tuple[int, int, int], int] = {}  # segment, of samples that have ended
        self._samples: dict[tuple[int, int], int] = {}
        self.failed: set[tuple[int, int]] = set()

    def add(self, name: str, data: bytes) -> None:
        """A part was created. Raises InvariantBroken if it repeats rows or leaves a gap."""
        shard, part = parse_part_name(name) or (-1, -1)
        highest = max((number for of, number in self._parts if of == shard), default=-1)
        if part != highest + 1:
            raise InvariantBroken(f"{name} follows part {highest}")
        self._parts[shard, part] = json.loads(data)["entries"]
        for entry in self._parts[shard, part]:
            row, sample, segment = entry[:3]
            key = shard, row, sample
            if self._sample_complete(key) or self.complete(shard, row):
                raise InvariantBroken(f"{name}: {key} comes after its end")
            there = self._segments.get(key, set())
            if segment in there or not there.issuperset(range(segment)):
                raise InvariantBroken(f"{name}: {key} segment {segment} beside {sorted(there)}")
            self._enter(shard, entry)

    def remove(self, name: str) -> None:
        """A part was removed: only the rows of the others are published now."""
        del self._parts[parse_part_name(name) or (-1, -1)]
        for record in (self._segments, self._last, self._samples, self.failed):
            record.clear()
        for (shard, _), entries in sorted(self._parts.items()):
            for entry in entries:
                self._enter(shard, entry)

    def _enter(self, shard: int, entry: Sequence[int]) -> None:
        row, sample, segment, progress, samples = entry
        key = shard, row, sample
        self._segments.setdefault(key, set()).add(segment)
        self._samples[shard, row] = min(samples, self._samples.get((shard, row), samples))
        if progress != IN_PROGRESS:
            self._last[key] = segment
        if progress == FAILED:
            self.failed.add((shard, row))
            self._segments[key].update(range(segment))

    def _sample_complete(self, key: tuple[int, int, int]) -> bool:
        last = self._last.get(key)
        return last is not None and self._segments[key].issuperset(range(last + 1))

    def complete(self, shard: int, row: int) -> bool:
        """All samples of the row are final."""
        samples = self._samples.get((shard, row))
        if samples is None:
            return False
        return sum(self._sample_complete((shard, row, sample)) for sample in range(8)) >= samples

    def missing(self) -> list[tuple[int, int]]:
        """Rows that are not complete."""
        return [
            (shard, row)
            for shard, rows in self._rows.items()
            for row in range(rows)
            if not self.complete(shard, row)
        ]


def check_driver(dispatch: Dispatch, shards: Sequence[Shard], most_held: int) -> None:
    """Raises InvariantBroken unless every row is done, waiting or assigned, and no worker has
    more than `most_held` units."""
    work, fleet = dispatch.work, dispatch.fleet
    units = list(work._open.values())
    open_rows = sum(unit.key.rows for unit in units)
    fresh_rows = sum(shard.rows for shard in work._fresh)
    total = sum(shard.rows for shard in shards)
    if work.rows_finished + open_rows + fresh_rows != total:
        raise InvariantBroken(f"{work.rows_finished} + {open_rows} + {fresh_rows} rows of {total}")
    queued = set(map(id, [*work._returned, *work._suspects]))
    for unit in units:
        if not unit.workers and id(unit) not in queued:
            raise InvariantBroken(f"{unit.key} is assigned to no worker, and waits nowhere")
        for name in unit.workers:
            member = fleet.get(name)
            if member is None or member.assigned.get(unit.key) is not unit:
                raise InvariantBroken(f"{unit.key} is not known to {name}")
    for member in fleet:
        for key, unit in member.assigned.items():
            if not work.is_open(unit) or member.name not in unit.workers:
                raise InvariantBroken(f"{member.name} has {key}, which does not know it")
        if len(member.assigned) > most_held:
            raise InvariantBroken(f"{member.name} has {len(member.assigned)} units")


def check_commands(commands: Sequence[Command], workers: int) -> None:
    """Raises InvariantBroken when one event causes too many commands."""
    holds = [command.worker for command in commands if isinstance(command, SetAssignments)]
    if len(holds) != len(set(holds)):
        raise InvariantBroken("a worker gets its assignments twice")
    if len(commands) > 4 * (workers + 4):
        raise InvariantBroken(f"{len(commands)} commands to {workers} workers")
