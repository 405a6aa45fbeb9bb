"""The event log that drivers keep in a job's output: what happened when."""

import json
import re
from collections.abc import Iterator, Sequence
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


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """Seconds of running: a run begins where the one before it ended."""

    begins: tuple[float, ...]  # of each run, seconds since the epoch
    offsets: tuple[float, ...]  # of each run's beginning on the axis
    total: float

    @classmethod
    def of(cls, runs: Sequence[Run]) -> "TimeAxis":
        offsets, total = [], 0.0
        for run in runs:
            offsets.append(total)
            total += run.ended - run.began
        return cls(tuple(run.began for run in runs), tuple(offsets), max(total, 1.0))

    def place(self, run: int, t: float) -> float:
        """Where an event of a run stands on the axis."""
        return self.offsets[run] + max(0.0, t - self.begins[run])


@dataclass(frozen=True, slots=True)
class Bins:
    """An axis cut into equal stretches, into which amounts are spread."""

    total: float
    count: int

    @property
    def width(self) -> float:
        return self.total / self.count

    def middles(self) -> list[float]:
        return [(index + 0.5) * self.width for index in range(self.count)]

    def spread(self, into: list[float], start: float, stop: float, amount: float) -> None:
        """Adds `amount` evenly over [start, stop) to the bins it covers."""
        if stop <= start or not amount:
            return
        first = min(int(start / self.width), self.count - 1)
        last = min(int(stop / self.width), self.count - 1)
        for index in range(first, last + 1):
            low = max(start, index * self.width)
            high = stop if index == self.count - 1 else min(stop, (index + 1) * self.width)
            into[index] += amount * max(0.0, high - low) / (stop - start)
