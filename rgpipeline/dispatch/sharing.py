"""Which shard a worker gets next."""

from dataclasses import dataclass

from rgpipeline.dispatch.fleet import Fleet, Member
from rgpipeline.dispatch.work_queue import Unit, Work


@dataclass(frozen=True, slots=True)
class Share:
    """A unit for a worker, and who gives it up for that."""

    unit: Unit
    taken_from: Member | None = None


def next_share(
    work: Work, fleet: Fleet, member: Member, copies: int, fresh_first: bool = False
) -> Share | None:
    """What to give `member` so that its slots never drain; None when it has enough.

    Enough is the present shard, the next one, and rows for two rounds of its slots. When no
    shard waits any more, it is given one that another has queued; and with nothing at all to do,
    a copy of one that another is at, for that one may never finish it. The log makes that safe.
    `fresh_first`: as for `Work.take`.
    """
    slots, outstanding = member.report.slots, member.outstanding
    if member.quarantined or (len(member.held) >= 2 and outstanding >= 2 * slots):
        return None
    unit = work.take(alone=not member.held, fresh_first=fresh_first)
    if unit is not None:
        return Share(unit)
    if outstanding >= slots:
        return None
    return _from_others(work, fleet, member, outstanding, copies)


def _from_others(
    work: Work, fleet: Fleet, member: Member, outstanding: int, copies: int
) -> Share | None:
    copy = None
    for unit in work.tail():
        if unit.alone or member.name in unit.holders:
            continue
        holder = _sole_holder(fleet, unit)
        if holder is not None and _better_moved(unit, holder, outstanding):
            return Share(unit, holder)
        if copy is None and len(unit.holders) < copies:
            copy = unit
    return Share(copy) if copy is not None and not member.held else None


def _sole_holder(fleet: Fleet, unit: Unit) -> Member | None:
    return fleet.get(next(iter(unit.holders))) if len(unit.holders) == 1 else None


def _better_moved(unit: Unit, holder: Member, outstanding: int) -> bool:
    """True when the holder comes to it last, has not begun it, and has no less to do than we."""
    last = len(holder.held) > 1 and next(reversed(holder.held.values())) is unit
    if not last or unit.key.shard in holder.begun:
        return False
    return holder.outstanding - unit.left >= outstanding + unit.left
