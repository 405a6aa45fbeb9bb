"""What others may see of the engine while it works."""

from dataclasses import dataclass
from typing import Any

from rgpipeline.engine.loop import Loop
from rgpipeline.records import SampleKey


@dataclass(frozen=True, slots=True)
class View:
    """One moment of the engine; replaced as a whole."""

    slots: int = 0
    occupied: int = 0
    waiting: int = 0
    working_on: tuple[SampleKey, ...] = ()  # what to suspect if the process dies now
    newest: str = ""


def look(
    loop: Loop[Any, Any],
    newest: str,
    *,
    made_ready: SampleKey | None = None,
) -> View:
    """The engine before its next step.

    `made_ready` is the row that is being made ready. It, and what the step is about to read, count
    as worked on: it may be that which kills.
    """
    keys = [key for key in loop.working_on if isinstance(key, SampleKey)]
    if made_ready is not None:
        keys.append(made_ready)
    return View(loop.slots, loop.occupied, loop.waiting, tuple(keys), newest)
