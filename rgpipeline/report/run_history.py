"""What the event log shows: runs, rates, occupancy, lives of workers, speed against position."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

from rgpipeline.events import (
    EVENTS_FOLDER,
    Event,
    RunBegan,
    WorkerChanged,
    WorkerFigures,
    parse_event,
    parse_event_file_name,
)
from rgpipeline.storage.store import Store

E = TypeVar("E", WorkerChanged, WorkerFigures)
_BINS = 160
_SHOWN_WORKERS = 7  # more are drawn as one layer
_ENDS = ("died", "killed", "drained", "left")
_MIN_POSITION_S = 0.1  # of slots' time at a position; a speed from less is noise
_POSITION = re.compile(r"position_(\d+)_(tokens|s)")


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

    @property
    def settings(self) -> RunBegan | None:
        """The event of its begin; None where the log lacks it."""
        return next((event for event in self.events if isinstance(event, RunBegan)), None)


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


@dataclass(frozen=True, slots=True)
class Layer:
    """One worker's share of a rate, by bin; `name` is empty for all further workers together."""

    name: str
    values: list[float]


@dataclass(frozen=True, slots=True)
class WorkerLife:
    """One worker, on the time axis."""

    worker: str
    host: str
    chips: int  # accelerators; 0 on a CPU, and where the log doesn't say
    start: float
    ready: float | None
    end: float
    how: str  # died | killed | drained | left | running
    reason: str

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class History:
    """All runs of a job on one axis."""

    axis: TimeAxis
    bins: Bins
    layers: list[Layer]  # tokens generated a second
    occupancy: list[float | None]  # share of slots with a sequence in them
    lives: list[WorkerLife]
    positions: list[tuple[int, float]]  # (first position, tokens a second and slot)
    began: RunBegan | None  # how the last run began

    @property
    def worker_seconds(self) -> float:
        return sum(life.seconds for life in self.lives)

    @property
    def device_seconds(self) -> float:
        """Of accelerators: every worker's seconds times its chips."""
        return sum(life.seconds * life.chips for life in self.lives)


def read_history(runs: Sequence[Run]) -> History | None:
    """None when no event was logged."""
    if not runs:
        return None
    axis = TimeAxis.of(runs)
    bins = Bins(axis.total, _BINS)
    figures = [_by_worker(run, WorkerFigures) for run in runs]
    return History(
        axis,
        bins,
        _layers(figures, axis, bins),
        _occupancy(figures, axis, bins),
        [life for index, run in enumerate(runs) for life in _lives(index, run, axis)],
        _positions(events[-1] for workers in figures for events in workers.values()),
        next((run.settings for run in reversed(runs) if run.settings), None),
    )


FiguresByWorker = dict[str, list[WorkerFigures]]


def _by_worker(run: Run, kind: type[E]) -> dict[str, list[E]]:
    found: dict[str, list[E]] = defaultdict(list)
    for event in run.events:
        if isinstance(event, kind):
            found[event.worker].append(event)
    return found


def _intervals(
    runs: Sequence[FiguresByWorker], axis: TimeAxis
) -> Iterator[tuple[WorkerFigures, WorkerFigures, float, float]]:
    """A worker's figures before and after each interval, and its start and stop on the axis."""
    for run, workers in enumerate(runs):
        for events in workers.values():
            for before, after in pairwise(events):
                yield before, after, axis.place(run, before.t), axis.place(run, after.t)


def _layers(runs: Sequence[FiguresByWorker], axis: TimeAxis, bins: Bins) -> list[Layer]:
    tokens = {name: [0.0] * bins.count for workers in runs for name in workers}
    for before, after, start, stop in _intervals(runs, axis):
        gained = after.completion_tokens - before.completion_tokens
        bins.spread(tokens[before.worker], start, stop, gained)
    ranked = sorted(tokens, key=lambda name: -sum(tokens[name]))[:_SHOWN_WORKERS]
    shown = [(name, values) for name, values in tokens.items() if name in ranked]
    rest = [values for name, values in tokens.items() if name not in ranked]
    if rest:
        shown.append(("", [sum(column) for column in zip(*rest, strict=True)]))
    return [Layer(name, [value / bins.width for value in values]) for name, values in shown]


def _occupancy(runs: Sequence[FiguresByWorker], axis: TimeAxis, bins: Bins) -> list[float | None]:
    """Slot-seconds in use over slot-seconds in all; None where there were no slots."""
    used, present = [0.0] * bins.count, [0.0] * bins.count
    for before, after, start, stop in _intervals(runs, axis):
        slots, occupied = (before.slots + after.slots) / 2, (before.occupied + after.occupied) / 2
        bins.spread(used, start, stop, occupied * (stop - start))
        bins.spread(present, start, stop, slots * (stop - start))
    return [busy / slots if slots else None for busy, slots in zip(used, present, strict=True)]


def _lives(index: int, run: Run, axis: TimeAxis) -> Iterator[WorkerLife]:
    for worker, events in _by_worker(run, WorkerChanged).items():
        ready = next((event for event in events if event.what == "ready"), None)
        end = next((event for event in events if event.what in _ENDS), None)
        yield WorkerLife(
            worker=worker,
            host=next((event.host for event in events if event.host), ""),
            chips=run.settings.chips if run.settings else 0,
            start=axis.place(index, events[0].t),
            ready=None if ready is None else axis.place(index, ready.t),
            end=axis.place(index, end.t if end else run.ended),
            how=end.what if end else "running",
            reason=end.reason if end else "",
        )


def _positions(last_figures: Iterable[WorkerFigures]) -> list[tuple[int, float]]:
    """Tokens that a slot generates in a second, by its sequence's position."""
    tokens: dict[int, float] = defaultdict(float)
    seconds: dict[int, float] = defaultdict(float)
    for figures in last_figures:
        for name, value in figures.details.items():
            match = _POSITION.fullmatch(name)
            if match is not None and isinstance(value, int | float):
                (tokens if match[2] == "tokens" else seconds)[int(match[1])] += value
    return [
        (2**power, tokens[power] / seconds[power])
        for power in sorted(tokens)
        if seconds[power] > _MIN_POSITION_S and tokens[power]
    ]
