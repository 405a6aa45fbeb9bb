"""What others may see of the engine while it works."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
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


def look(loop: Loop[Any, Any], queued: Iterable[SampleKey], newest: str) -> View:
    """The engine before its next step. `queued`: what has no slot yet, the next ones first.

    What the step is about to admit counts as worked on: it may be that which kills.
    """
    keys = [key for key in loop.working_on if isinstance(key, SampleKey)]
    if loop.waiting and len(keys) < loop.slots:
        seated = set(keys)
        fresh = (key for key in queued if key not in seated)
        keys += islice(fresh, loop.slots - len(keys))
    return View(loop.slots, loop.occupied, loop.waiting, tuple(keys), newest)
