"""Which shard a worker gets next."""

from dataclasses import dataclass

from rgpipeline.dispatch.fleet import Fleet, Member
from rgpipeline.dispatch.work_queue import WorkQueue, WorkUnit


@dataclass(frozen=True, slots=True)
class Choice:
    """A unit for a worker, and who gives it up for that."""

    unit: WorkUnit
    taken_from: Member | None = None


def choose_unit(
    work: WorkQueue, fleet: Fleet, member: Member, copies: int, fresh_first: bool = False
) -> Choice | None:
    """What to give `member` so that its slots never drain; None when it has enough.

    Enough is the present shard, the next one, and rows for two rounds of its slots. When no
    shard waits any more, it is given one that another has queued; and with nothing at all to do,
    a copy of one that another is at, for that one may never finish it. The log makes that safe.
    `fresh_first`: as for `WorkQueue.take`.
    """
    slots, outstanding = member.report.slots, member.outstanding
    if member.quarantined or (len(member.held) >= 2 and outstanding >= 2 * slots):
        return None
    unit = work.take(idle=not member.held, fresh_first=fresh_first)
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
        holder = _sole_holder(fleet, unit)
        if holder is not None and _better_moved(unit, holder, outstanding):
            return Choice(unit, holder)
        if copy is None and len(unit.workers) < copies:
            copy = unit
    return Choice(copy) if copy is not None and not member.held else None


def _sole_holder(fleet: Fleet, unit: WorkUnit) -> Member | None:
    return fleet.get(next(iter(unit.workers))) if len(unit.workers) == 1 else None


def _better_moved(unit: WorkUnit, holder: Member, outstanding: int) -> bool:
    """True when the holder comes to it last, has not begun it, and has no less to do than we."""
    last = len(holder.held) > 1 and next(reversed(holder.held.values())) is unit
    if not last or unit.key.shard in holder.begun:
        return False
    return holder.outstanding - unit.left >= outstanding + unit.left
