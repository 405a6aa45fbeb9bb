"""The event log that drivers keep in a job's output: what happened when."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rgpipeline.storage.store import Store

FOLDER = "_rgp/events/"
_NAME = re.compile(r"_rgp/events/(\d+)-(\d+)\.jsonl")


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the log."""

    t: float  # seconds since the epoch
    kind: str  # run | worker | rate | …
    facts: dict[str, Any]

    def text(self, name: str) -> str:
        return str(self.facts.get(name) or "")

    def number(self, name: str) -> float:
        value = self.facts.get(name)
        return float(value) if isinstance(value, int | float) else 0.0


@dataclass(frozen=True, slots=True)
class Run:
    """One driver's life: the events of one start of the job, in order."""

    events: list[Event] = field(default_factory=list)

    @property
    def began(self) -> float:
        return self.events[0].t

    @property
    def ended(self) -> float:
        return self.events[-1].t


def read_runs(store: Store) -> list[Run]:
    """Every run of a job, oldest first; lines that can't be read are left out."""
    named = [(match, name) for name in store.list(FOLDER) if (match := _NAME.fullmatch(name))]
    runs: dict[int, Run] = {}
    for match, name in sorted(named, key=lambda pair: (int(pair[0][1]), int(pair[0][2]))):
        run = runs.setdefault(int(match[1]), Run())
        run.events.extend(_events(store.read(name)))
    for run in runs.values():
        run.events.sort(key=lambda event: event.t)
    return [run for _, run in sorted(runs.items()) if run.events]


def _events(data: bytes) -> Iterator[Event]:
    for line in data.splitlines():
        try:
            facts = json.loads(line)
            yield Event(float(facts.pop("t")), str(facts.pop("kind")), facts)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
