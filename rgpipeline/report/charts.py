"""Charts as HTML and SVG: shapes stretch with the page, words keep their size.

A chart is a frame with an SVG of 1000 × 1000 units stretched over it; ticks and labels are HTML,
placed by per cent. Colours are the style sheet's.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

_UNITS = 1000.0

Say = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a chart: from `low` to `high`, with ticks and how they are worded."""

    low: float
    high: float
    ticks: Sequence[float]
    say: Say
    breaks: Sequence[float] = ()  # drawn across the chart

    def at(self, value: float) -> float:
        """Where a value stands, 0 to 1."""
        return (value - self.low) / (self.high - self.low) if self.high > self.low else 0.0


def linear(high: float, say: Say, wanted: int = 5) -> Axis:
    """An axis from 0 to a round number at or above `high`."""
    step = _round_step(max(high, 1e-9) / wanted)
    count = max(1, math.ceil(max(high, 1e-9) / step - 1e-9))
    return Axis(0.0, step * count, [step * index for index in range(count + 1)], say)


def between(low: float, high: float, say: Say, wanted: int = 6) -> Axis:
    """An axis from `low` to `high` themselves, ticks at round numbers."""
    step = max(1.0, _round_step(max(high - low, 1e-9) / wanted))
    first = math.ceil(low / step - 1e-9)
    ticks = [step * index for index in range(first, int(high / step + 1e-9) + 1)]
    return Axis(low, high, ticks, say)


def exact(high: float, steps: Sequence[float], say: Say, wanted: int = 7) -> Axis:
    """An axis from 0 to `high` itself; ticks at multiples of the first wide enough step."""
    fallback = _round_step(max(high, 1e-9) / wanted)
    step = next((step for step in steps if high / step <= wanted), fallback)
    count = int(high / step + 1e-9)
    return Axis(0.0, max(high, 1e-9), [step * index for index in range(count + 1)], say)


def doublings(low: float, high: float, say: Say) -> Axis:
    """A logarithmic axis; values, ticks included, are exponents of 2."""
    step = max(1, math.ceil((high - low) / 8))
    ticks = [float(tick) for tick in range(math.ceil(low), math.floor(high) + 1, step)]
    return Axis(low, high, ticks, say)


@dataclass(frozen=True, slots=True)
class Area:
    """One layer of a stacked chart."""

    name: str
    values: Sequence[float]


def stacked(places: Sequence[float], areas: Sequence[Area], x: Axis, y: Axis) -> Markup:
    """Areas on top of each other, the first one lowest."""
    shapes: list[Markup] = []
    floor = [0.0] * len(places)
    for index, area in enumerate(areas):
        top = [low + value for low, value in zip(floor, area.values, strict=True)]
        edge = [_point(x, y, place, value) for place, value in zip(places, top, strict=True)]
        back = [_point(x, y, place, value) for place, value in zip(places, floor, strict=True)]
        shapes.append(
            Markup('<path class="area s{}" d="M{}Z"><title>{}</title></path>').format(
                index, "L".join([*edge, *reversed(back)]), area.name
            )
        )
        floor = top
    return _frame(shapes, x, y)


def line(points: Sequence[tuple[float, float | None]], x: Axis, y: Axis, *, dots: bool) -> Markup:
    """One line, broken where a value is None; `dots` marks each point and names its value."""
    stretches: list[list[str]] = [[]]
    marks: list[Markup] = []
    for place, value in points:
        if value is None:
            stretches.append([])
            continue
        stretches[-1].append(_point(x, y, place, value))
        if dots:
            marks.append(
                Markup('<i class="dot" style="left:{}%;bottom:{}%" title="{}"></i>').format(
                    _percent(x.at(place)), _percent(y.at(value)), f"{x.say(place)}: {y.say(value)}"
                )
            )
    paths = [
        Markup('<path class="line" d="M{}"/>').format("L".join(stretch))
        for stretch in stretches
        if stretch
    ]
    return _frame(paths, x, y, marks)


def bars(found: Sequence[tuple[float, float, float, str]], x: Axis, y: Axis) -> Markup:
    """Bars (from, to, height, what it says when pointed at)."""
    shapes = [
        Markup(
            '<rect class="bar" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>'
        ).format(
            _number(x.at(start) * _UNITS),
            _number((1 - y.at(height)) * _UNITS),
            _number(max((x.at(stop) - x.at(start)) * _UNITS * 0.92, 1.0)),
            _number(y.at(height) * _UNITS),
            told,
        )
        for start, stop, height, told in found
    ]
    return _frame(shapes, x, y)


@dataclass(frozen=True, slots=True)
class Stay:
    """One bar of a time line."""

    label: str
    start: float
    ready: float | None
    end: float
    how: str
    told: str


def timeline(stays: Sequence[Stay], x: Axis) -> Markup:
    """One row for each worker: opening pale, at work full, its end marked."""
    rows = [
        Markup(
            '<div class="stay"><span class="who" title="{told}">{label}</span><span class="track">'
            '<i class="opening" style="left:{start}%;width:{opening}%"></i>'
            '<i class="work" style="left:{ready}%;width:{work}%" title="{told}"></i>'
            '<b class="end {how}" style="left:{end}%" title="{told}"></b></span></div>'
        ).format(**_spans(stay, x))
        for stay in stays
    ]
    return Markup(
        '<div class="timeline">{}<div class="stay"><span class="who"></span>{}</div></div>'
    ).format(
        Markup("").join(rows), Markup('<span class="track ticks">{}</span>').format(_x_ticks(x))
    )


def _spans(stay: Stay, x: Axis) -> dict[str, str]:
    ready = stay.end if stay.ready is None else stay.ready
    return {
        "label": stay.label,
        "told": stay.told,
        "how": stay.how,
        "start": _percent(x.at(stay.start)),
        "opening": _percent(x.at(ready) - x.at(stay.start)),
        "ready": _percent(x.at(ready)),
        "work": _percent(x.at(stay.end) - x.at(ready)),
        "end": _percent(x.at(stay.end)),
    }


def _frame(shapes: Sequence[Markup], x: Axis, y: Axis, over: Sequence[Markup] = ()) -> Markup:
    grid = [
        Markup('<line class="grid" x1="0" x2="1000" y1="{0}" y2="{0}"/>').format(
            _number((1 - y.at(tick)) * _UNITS)
        )
        for tick in y.ticks
    ]
    breaks = [
        Markup('<line class="break" y1="0" y2="1000" x1="{0}" x2="{0}"/>').format(
            _number(x.at(place) * _UNITS)
        )
        for place in x.breaks
    ]
    return Markup(
        '<div class="chart"><div class="plot"><svg viewBox="0 0 1000 1000" '
        'preserveAspectRatio="none" aria-hidden="true">{}{}</svg>{}{}{}</div></div>'
    ).format(
        Markup("").join(grid),
        Markup("").join([*shapes, *breaks]),
        Markup("").join(over),
        Markup("").join(_y_ticks(y)),
        _x_ticks(x),
    )


def _y_ticks(y: Axis) -> Iterator[Markup]:
    for tick in y.ticks:
        yield Markup('<span class="y" style="bottom:{}%">{}</span>').format(
            _percent(y.at(tick)), y.say(tick)
        )


def _x_ticks(x: Axis) -> Markup:
    return Markup("").join(
        Markup('<span class="x" style="left:{}%">{}</span>').format(
            _percent(x.at(tick)), x.say(tick)
        )
        for tick in x.ticks
    )


def _point(x: Axis, y: Axis, place: float, value: float) -> str:
    return f"{_number(x.at(place) * _UNITS)},{_number((1 - y.at(value)) * _UNITS)}"


def _number(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _round_step(step: float) -> float:
    """1, 2 or 5 times a power of ten, at or above `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= step * (1 - 1e-9))


__all__ = [
    "Area",
    "Axis",
    "Stay",
    "bars",
    "between",
    "doublings",
    "exact",
    "line",
    "linear",
    "stacked",
    "timeline",
]
