"""Finds the most slots that fit, with few compilations.

A program that does not fit is refused within seconds, and the refusal says how much memory it
needs. A program that fits takes half a minute or more to compile. So the search comes from above:
two refusals give a line, the line gives a candidate, and from there the search goes step by step.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rgpipeline.errors import UserError
from rgpipeline.fit.bounds import fits, hbm_bytes
from rgpipeline.fit.compilation import Compiled, CompileRequest, compile_programs
from rgpipeline.fit.topology import Chip, chips_in

# Rows of a memory tile of int8: other numbers of slots are padded to a multiple of it.
TILE = 32


@dataclass(frozen=True, slots=True)
class Trial:
    """What a compilation for one number of slots says, per chip."""

    slots: int
    fits: bool
    total_bytes: int  # that it needs, whether or not it fits
    weights_bytes: int
    slot_bytes: float  # of state, each slot


def compile_most_slots(request: CompileRequest, chip: Chip) -> Compiled:
    """The request's programs, compiled for the largest number of slots that fits.

    The search compiles the decode program alone, which needs the most memory in nearly all cases;
    the others are compiled for its result.

    Raises:
      UserError: not even the smallest number of slots fits.
    """
    step = TILE * chips_in(request.topology)
    compiled: dict[int, Compiled] = {}

    def attempt(slots: int) -> Trial:
        if slots not in compiled:
            decode = dataclasses.replace(request, slots=slots, programs=("decode",))
            compiled[slots] = compile_programs(decode)
        return _trial(compiled[slots], chip)

    others = tuple(name for name in request.programs if name != "decode")
    found = most_slots(attempt, chip.hbm_bytes, step=step)
    while found is not None:
        rest = compile_programs(dataclasses.replace(request, slots=found.slots, programs=others))
        programs = {**compiled[found.slots].programs, **rest.programs}
        whole = dataclasses.replace(rest, programs=programs)
        if fits(whole, chip):
            return whole
        found = attempt(found.slots - step) if found.slots > step else None
    raise UserError(_nothing_fits(request, compiled, chip))


def most_slots(
    attempt: Callable[[int], Trial], capacity: int, *, step: int = TILE, far: int = 4096
) -> Trial | None:
    """The largest multiple of `step` that fits; None if not even one step does.

    Args:
      attempt: compiles for a number of slots.
      capacity: bytes of one chip.
      step: slots are a multiple of it.
      far: the number of slots to begin with.
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


def _trial(compiled: Compiled, chip: Chip) -> Trial:
    memory = hbm_bytes(compiled, chip)
    return Trial(
        slots=compiled.slots,
        fits=fits(compiled, chip),
        total_bytes=memory.total,
        weights_bytes=memory.weights,
        slot_bytes=memory.state / compiled.slots,
    )


def _nothing_fits(request: CompileRequest, compiled: Mapping[int, Compiled], chip: Chip) -> str:
    fewest = min(compiled)
    memory = hbm_bytes(compiled[fewest], chip)
    other = ", or --quantize int8" if request.quantize == "none" else ""
    return (
        f"{request.model} does not fit {request.topology} with even {fewest} slots: weights are "
        f"{memory.weights / 2**30:.2f} GiB a chip, of {memory.capacity / 2**30:.2f}; "
        f"take a chip with more memory{other}"
    )


def _down(slots: float, step: int) -> int:
    return int(slots // step) * step


def _up(slots: float, step: int) -> int:
    return -int(-slots // step) * step
