"""Which worker gets which work unit."""

from dataclasses import dataclass

from rgpipeline.dispatch.driver_messages import SetAssignments
from rgpipeline.dispatch.fleet import Fleet, Member
from rgpipeline.dispatch.work_queue import WorkQueue, WorkUnit
from rgpipeline.records import ShardDone


@dataclass(frozen=True, slots=True)
class Choice:
    """A unit for a worker, and the worker that gives it up for that."""

    unit: WorkUnit
    taken_from: Member | None = None


class Assigner:
    """Assigns work units to workers, and withdraws them. Notes whose assignments have changed."""

    def __init__(self, work: WorkQueue, fleet: Fleet, copies: int) -> None:
        """`copies`: how many workers may have one unit when nothing else is left."""
        self._work = work
        self._fleet = fleet
        self._copies = copies
        self._changed: dict[str, Member] = {}

    def feed(self, member: Member, now: float, fresh_first: bool = False) -> None:
        """Assigns units to the worker until its slots stay full; see `choose_unit`."""
        while choice := choose_unit(self._work, self._fleet, member, self._copies, fresh_first):
            unit = choice.unit
            if choice.taken_from is not None:
                self._withdraw(choice.taken_from, unit)
            if not member.assigned:
                member.progress_at = now  # it was idle until now, and had no progress to make
            unit.workers.add(member.name)
            unit.saved = member.report.saved
            member.assigned[unit.key] = unit
            self._changed[member.name] = member

    def finish(self, done: ShardDone) -> bool:
        """Notes that an assignment's rows are in the log; True when that is news and progress.

        Rows that were given up by order of the driver are no progress.
        """
        unit = self._work.finish(done)
        if unit is None:
            return False
        for member in self._workers_of(unit):
            member.credit(unit)
        self._withdraw_from_all(unit)
        return not unit.assignment.failed

    def release_unstarted(self, member: Member) -> None:
        """Makes the units wait again of which the worker has no row in its slots."""
        for unit in list(member.assigned.values()):
            if unit.key.shard not in member.started_shards:
                self._withdraw(member, unit)
                self._work.release(unit, member.name)

    def suspect(self, member: Member, reason: str, mark_poison: bool) -> None:
        """Records that the worker died with its units; call `release_all` afterwards.

        Any of them may be to blame: what the worker last said of its slots may be long past.
        """
        reason = f"its worker was lost again and again: {reason}"
        for unit in list(member.assigned.values()):
            unit.workers.discard(member.name)
            if self._work.record_failure(unit, reason, mark_poison, member.report.saved):
                self._withdraw_from_all(unit)

    def release_all(self, member: Member) -> None:
        """Makes all units of a worker that is gone wait again."""
        self._changed.pop(member.name, None)
        for unit in member.assigned.values():
            self._work.release(unit, member.name)

    def take_changes(self) -> list[SetAssignments]:
        """A command for each worker whose assignments have changed since the last call."""
        changed, self._changed = self._changed, {}
        return [
            SetAssignments(name, tuple(unit.assignment for unit in member.assigned.values()))
            for name, member in changed.items()
        ]

    def _withdraw(self, member: Member, unit: WorkUnit) -> None:
        unit.workers.discard(member.name)
        del member.assigned[unit.key]
        self._changed[member.name] = member

    def _withdraw_from_all(self, unit: WorkUnit) -> None:
        for member in self._workers_of(unit):
            self._withdraw(member, unit)

    def _workers_of(self, unit: WorkUnit) -> list[Member]:
        # Sorted, so that the simulator replays a seed exactly.
        members = (self._fleet.get(name) for name in sorted(unit.workers))
        return [member for member in members if member is not None]


def choose_unit(
    work: WorkQueue, fleet: Fleet, member: Member, copies: int, fresh_first: bool = False
) -> Choice | None:
    """The unit to assign to `member` next; None when it has enough, or nothing is left.

    Enough is the present shard, the next one, and rows for two rounds of its slots. When no unit
    waits any more, one is taken from a worker that has only queued it. An idle worker gets a copy
    of a unit that another has, since that one may never finish it; the log makes copies safe.
    `fresh_first`: as for `WorkQueue.take`.
    """
    slots, outstanding = member.report.slots, member.outstanding
    if member.has_suspect or (len(member.assigned) >= 2 and outstanding >= 2 * slots):
        return None
    unit = work.take(idle=not member.assigned, fresh_first=fresh_first)
    if unit is not None:
        return Choice(unit)
    if outstanding >= slots:
        return None
    return _from_others(work, fleet, member, outstanding, copies)


def _from_others(
    work: WorkQueue, fleet: Fleet, member: Member, outstanding: int, copies: int
) -> Choice | None:
    copy = None
    for unit in work.candidates():
        if unit.suspected or member.name in unit.workers:
            continue
        holder = fleet.get(next(iter(unit.workers))) if len(unit.workers) == 1 else None
        if holder is not None and _should_move(unit, holder, outstanding):
            return Choice(unit, holder)
        if copy is None and len(unit.workers) < copies:
            copy = unit
    return Choice(copy) if copy is not None and not member.assigned else None


def _should_move(unit: WorkUnit, holder: Member, outstanding: int) -> bool:
    """Whether the unit is better done by a worker that has `outstanding` rows to do.

    So it is when it is its holder's last, not started, and the holder has no fewer rows to do.
    """
    last = len(holder.assigned) > 1 and next(reversed(holder.assigned.values())) is unit
    if not last or unit.key.shard in holder.started_shards:
        return False
    return holder.outstanding - unit.left >= outstanding + unit.left
