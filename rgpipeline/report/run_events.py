"""The event log of a job's output, read; and the time axis that its runs stand on."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rgpipeline.events import EVENTS_FOLDER, Event, parse_event, parse_event_file_name
from rgpipeline.storage.store import Store


@dataclass(frozen=True, slots=True)
class Run:
    """The events of one start of the job, in order; at least one."""

    events: list[Event] = field(default_factory=list)

    @property
    def began(self) -> float:
        return self.events[0].t

    @property
    def ended(self) -> float:
        return self.events[-1].t


def read_runs(store: Store) -> list[Run]:
    """Every run of a job, oldest first; lines that can't be read are left out."""
    names = store.list(EVENTS_FOLDER)
    files = sorted((key, name) for name in names if (key := parse_event_file_name(name)))
    runs: dict[int, Run] = {}
    for (began, _), name in files:
        events = map(parse_event, store.read(name).splitlines())
        runs.setdefault(began, Run()).events.extend(event for event in events if event)
    for run in runs.values():
        run.events.sort(key=lambda event: event.t)
    return [run for run in runs.values() if run.events]


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """Seconds of running: each run begins where the one before it ended, without the pause."""

    begins: tuple[float, ...]  # of each run, seconds since the epoch
    offsets: tuple[float, ...]  # of each run's begin on the axis
    total: float

    @classmethod
    def of(cls, runs: Sequence[Run]) -> "TimeAxis":
        offsets, total = [], 0.0
        for run in runs:
            offsets.append(total)
            total += run.ended - run.began
        return cls(tuple(run.began for run in runs), tuple(offsets), max(total, 1.0))

    def place(self, run: int, t: float) -> float:
        """The position on the axis of time `t` in a run."""
        return self.offsets[run] + max(0.0, t - self.begins[run])


@dataclass(frozen=True, slots=True)
class Bins:
    """The axis divided into bins of equal width."""

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
