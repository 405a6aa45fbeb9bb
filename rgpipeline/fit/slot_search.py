"""The most slots that fit, with few compilations.

A program that does not fit is refused within seconds, and the refusal says how much it would need;
one that fits takes half a minute or more. So the search comes from above: two refusals give a
line, the line gives a candidate, and from there it goes step by step.
"""

from collections.abc import Callable
from dataclasses import dataclass

# Rows of a memory tile of int8: other numbers of slots are padded to them.
TILE = 32


@dataclass(frozen=True, slots=True)
class Trial:
    """What compiling for one number of slots told, per chip."""

    slots: int
    fits: bool
    total_bytes: int  # that it needs, or would need
    weights_bytes: int
    slot_bytes: float  # of state, each slot


def most_slots(
    attempt: Callable[[int], Trial], capacity: int, *, step: int = TILE, far: int = 4096
) -> Trial | None:
    """The largest multiple of `step` that fits; None if not even one step does.

    Args:
      attempt: compiles for a number of slots.
      capacity: bytes of one chip.
      step: slots are a multiple of it.
      far: a number of slots to begin with.
    """
    trial = _candidate(attempt, capacity, step, far)
    refused: int | None = None
    while not trial.fits:
        refused = trial.slots
        missing = trial.total_bytes - capacity
        slots = trial.slots - max(step, _up(missing / trial.slot_bytes, step))
        if slots < step:
            return None
        trial = attempt(slots)
    while refused is None or trial.slots + step < refused:
        above = attempt(trial.slots + step)
        if not above.fits:
            break
        trial = above
    return trial


def _candidate(attempt: Callable[[int], Trial], capacity: int, step: int, far: int) -> Trial:
    """A trial near the capacity: where the line through two refusals meets it."""
    first = attempt(max(step, _down(far, step)))
    while first.fits:
        first = attempt(first.slots * 2)
    most = _down((capacity - first.weights_bytes) / first.slot_bytes, step)
    second = attempt(max(step, most))
    if second.fits or second.slots in (step, first.slots):
        return second
    slope = (first.total_bytes - second.total_bytes) / (first.slots - second.slots)
    missing = (second.total_bytes - capacity) / max(slope, second.slot_bytes)
    return attempt(max(step, _down(second.slots - missing, step)))


def _down(slots: float, step: int) -> int:
    return int(slots // step) * step


def _up(slots: float, step: int) -> int:
    return -int(-slots // step) * step
