"""What the event log tells: rates, occupancy, lives of workers, speed against position."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rgpipeline.report.run_events import Bins, Event, Run, TimeAxis

_BINS = 160
_SHOWN_WORKERS = 7  # more are drawn as one layer
_ENDS = ("died", "killed", "drained", "left")
_TELLING_S = 0.1  # of slots' time: shorter is chance
_POSITION = re.compile(r"position_(\d+)_(tokens|s)")


@dataclass(frozen=True, slots=True)
class Layer:
    """One worker's share of a rate, by bin; `name` is empty for all the rest together."""

    name: str
    values: list[float]


@dataclass(frozen=True, slots=True)
class Life:
    """One worker, on the time axis."""

    worker: str
    host: str
    start: float
    ready: float | None
    end: float
    how: str  # died | killed | drained | left | running
    reason: str


@dataclass(frozen=True, slots=True)
class History:
    """All runs of a job on one axis."""

    axis: TimeAxis
    bins: Bins
    layers: list[Layer]  # tokens generated a second
    occupancy: list[float | None]  # share of slots with a sequence in them
    lives: list[Life]
    positions: list[tuple[int, float]]  # (first position, tokens a second and slot)


def history(runs: Sequence[Run]) -> History | None:
    """None when no event was logged."""
    if not runs:
        return None
    axis = TimeAxis.of(runs)
    bins = Bins(axis.total, _BINS)
    rates = [list(_by_worker(run)) for run in runs]
    return History(
        axis,
        bins,
        _layers(rates, axis, bins),
        _occupancy(rates, axis, bins),
        [life for index, run in enumerate(runs) for life in _lives(index, run, axis)],
        _positions(events for run in rates for _, events in run),
    )


def _by_worker(run: Run) -> Iterator[tuple[str, list[Event]]]:
    found: dict[str, list[Event]] = defaultdict(list)
    for event in run.events:
        if event.kind == "rate":
            found[event.text("worker")].append(event)
    yield from found.items()


TokenRates = Sequence[Sequence[tuple[str, list[Event]]]]


def _layers(rates: TokenRates, axis: TimeAxis, bins: Bins) -> list[Layer]:
    tokens: dict[str, list[float]] = {}
    for run, workers in enumerate(rates):
        for name, events in workers:
            into = tokens.setdefault(name, [0.0] * bins.count)
            for before, after in pairwise(events):
                gained = after.number("completion_tokens") - before.number("completion_tokens")
                bins.spread(into, axis.place(run, before.t), axis.place(run, after.t), gained)
    ranked = sorted(tokens, key=lambda name: -sum(tokens[name]))[:_SHOWN_WORKERS]
    layers = [Layer(name, _per_second(tokens[name], bins)) for name in tokens if name in ranked]
    rest = [values for name, values in tokens.items() if name not in ranked]
    if rest:
        layers.append(
            Layer("", _per_second([sum(column) for column in zip(*rest, strict=True)], bins))
        )
    return layers


def _per_second(values: Sequence[float], bins: Bins) -> list[float]:
    return [value / bins.width for value in values]


def _occupancy(rates: TokenRates, axis: TimeAxis, bins: Bins) -> list[float | None]:
    """Slot-seconds in use over slot-seconds there were; None where there were none."""
    used, there = [0.0] * bins.count, [0.0] * bins.count
    for run, workers in enumerate(rates):
        for _, events in workers:
            for before, after in pairwise(events):
                start, stop = axis.place(run, before.t), axis.place(run, after.t)
                slots = (before.number("slots") + after.number("slots")) / 2
                busy = (before.number("occupied") + after.number("occupied")) / 2
                bins.spread(used, start, stop, busy * (stop - start))
                bins.spread(there, start, stop, slots * (stop - start))
    return [busy / slots if slots else None for busy, slots in zip(used, there, strict=True)]


def _lives(index: int, run: Run, axis: TimeAxis) -> Iterator[Life]:
    told: dict[str, list[Event]] = defaultdict(list)
    for event in run.events:
        if event.kind == "worker":
            told[event.text("worker")].append(event)
    for worker, events in told.items():
        ready = next((event for event in events if event.text("what") == "ready"), None)
        end = next((event for event in events if event.text("what") in _ENDS), None)
        yield Life(
            worker=worker,
            host=next((event.text("host") for event in events if event.text("host")), ""),
            start=axis.place(index, events[0].t),
            ready=None if ready is None else axis.place(index, ready.t),
            end=axis.place(index, end.t if end else run.ended),
            how=end.text("what") if end else "running",
            reason=end.text("reason") if end else "",
        )


def _positions(workers: Iterable[list[Event]]) -> list[tuple[int, float]]:
    """Tokens a slot makes in a second, by how far its sequence is."""
    tokens: dict[int, float] = defaultdict(float)
    seconds: dict[int, float] = defaultdict(float)
    for events in workers:
        details = events[-1].facts.get("details")
        for name, value in details.items() if isinstance(details, dict) else ():
            match = _POSITION.fullmatch(name)
            if match is not None and isinstance(value, int | float):
                (tokens if match[2] == "tokens" else seconds)[int(match[1])] += value
    return [
        (2**power, tokens[power] / seconds[power])
        for power in sorted(tokens)
        if seconds[power] > _TELLING_S and tokens[power]
    ]
