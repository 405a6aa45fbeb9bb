"""Charts as HTML and SVG: shapes stretch with the page, text keeps its size.

A chart is an SVG of 1000 × 1000 units that is stretched over a frame. Ticks and labels are HTML,
positioned in per cent. Colours are in the style sheet.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

_UNITS = 1000.0

Format = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a chart, from `low` to `high`; `format` makes the text of a value."""

    low: float
    high: float
    ticks: Sequence[float]
    format: Format
    breaks: Sequence[float] = ()  # drawn across the chart

    def at(self, value: float) -> float:
        """The value's position on the axis, 0 to 1."""
        return (value - self.low) / (self.high - self.low) if self.high > self.low else 0.0


def linear(high: float, format: Format, wanted: int = 5) -> Axis:
    """An axis from 0 to a round number at or above `high`."""
    step = _round_step(max(high, 1e-9) / wanted)
    count = max(1, math.ceil(max(high, 1e-9) / step - 1e-9))
    return Axis(0.0, step * count, [step * index for index in range(count + 1)], format)


def between(low: float, high: float, format: Format) -> Axis:
    """An axis from exactly `low` to exactly `high`, with ticks at round numbers."""
    step = max(1.0, _round_step(max(high - low, 1e-9) / 6))
    first = math.ceil(low / step - 1e-9)
    ticks = [step * index for index in range(first, int(high / step + 1e-9) + 1)]
    return Axis(low, high, ticks, format)


def exact(high: float, steps: Sequence[float], format: Format, wanted: int = 7) -> Axis:
    """An axis from 0 to exactly `high`; ticks at multiples of the first of `steps` that is wide
    enough for `wanted` ticks."""
    fallback = _round_step(max(high, 1e-9) / wanted)
    step = next((step for step in steps if high / step <= wanted), fallback)
    count = int(high / step + 1e-9)
    return Axis(0.0, max(high, 1e-9), [step * index for index in range(count + 1)], format)


def doublings(low: float, high: float, format: Format) -> Axis:
    """A logarithmic axis; values, ticks included, are exponents of 2."""
    step = max(1, math.ceil((high - low) / 8))
    ticks = [float(tick) for tick in range(math.ceil(low), math.floor(high) + 1, step)]
    return Axis(low, high, ticks, format)


@dataclass(frozen=True, slots=True)
class Area:
    """One layer of a stacked chart."""

    name: str
    values: Sequence[float]


def stacked(xs: Sequence[float], areas: Sequence[Area], x: Axis, y: Axis) -> Markup:
    """Areas stacked on each other, the first one lowest."""
    shapes: list[Markup] = []
    floor = [0.0] * len(xs)
    for index, area in enumerate(areas):
        top = [low + value for low, value in zip(floor, area.values, strict=True)]
        edge = [_point(x, y, position, value) for position, value in zip(xs, top, strict=True)]
        back = [_point(x, y, position, value) for position, value in zip(xs, floor, strict=True)]
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
    for position, value in points:
        if value is None:
            stretches.append([])
            continue
        stretches[-1].append(_point(x, y, position, value))
        if dots:
            marks.append(
                Markup('<i class="dot" style="left:{}%;bottom:{}%" title="{}"></i>').format(
                    _percent(x.at(position)),
                    _percent(y.at(value)),
                    f"{x.format(position)}: {y.format(value)}",
                )
            )
    paths = [
        Markup('<path class="line" d="M{}"/>').format("L".join(stretch))
        for stretch in stretches
        if stretch
    ]
    return _frame(paths, x, y, marks)


def bars(found: Sequence[tuple[float, float, float, str]], x: Axis, y: Axis) -> Markup:
    """Bars (from, to, height, title)."""
    shapes = [
        Markup(
            '<rect class="bar" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>'
        ).format(
            _number(x.at(start) * _UNITS),
            _number((1 - y.at(height)) * _UNITS),
            _number(max((x.at(stop) - x.at(start)) * _UNITS * 0.92, 1.0)),
            _number(y.at(height) * _UNITS),
            title,
        )
        for start, stop, height, title in found
    ]
    return _frame(shapes, x, y)


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """One row of a time line: times on the axis, how it ended, and the title."""

    label: str
    start: float
    ready: float | None
    end: float
    how: str
    title: str


def timeline(lives: Sequence[TimelineRow], x: Axis) -> Markup:
    """A row for each worker: pale while its engine opens, full while it works, its end marked."""
    rows = [
        Markup(
            '<div class="stay"><span class="who" title="{title}">{label}</span><span class="track">'
            '<i class="opening" style="left:{start}%;width:{opening}%"></i>'
            '<i class="work" style="left:{ready}%;width:{work}%" title="{title}"></i>'
            '<b class="end {how}" style="left:{end}%" title="{title}"></b></span></div>'
        ).format(**_spans(life, x))
        for life in lives
    ]
    return Markup(
        '<div class="timeline">{}<div class="stay"><span class="who"></span>{}</div></div>'
    ).format(
        Markup("").join(rows), Markup('<span class="track ticks">{}</span>').format(_x_ticks(x))
    )


def _spans(life: TimelineRow, x: Axis) -> dict[str, str]:
    ready = life.end if life.ready is None else life.ready
    return {
        "label": life.label,
        "title": life.title,
        "how": life.how,
        "start": _percent(x.at(life.start)),
        "opening": _percent(x.at(ready) - x.at(life.start)),
        "ready": _percent(x.at(ready)),
        "work": _percent(x.at(life.end) - x.at(ready)),
        "end": _percent(x.at(life.end)),
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
            _number(x.at(position) * _UNITS)
        )
        for position in x.breaks
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
            _percent(y.at(tick)), y.format(tick)
        )


def _x_ticks(x: Axis) -> Markup:
    return Markup("").join(
        Markup('<span class="x" style="left:{}%">{}</span>').format(
            _percent(x.at(tick)), x.format(tick)
        )
        for tick in x.ticks
    )


def _point(x: Axis, y: Axis, position: float, value: float) -> str:
    return f"{_number(x.at(position) * _UNITS)},{_number((1 - y.at(value)) * _UNITS)}"


def _number(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _round_step(step: float) -> float:
    """1, 2 or 5 times a power of ten, at or above `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= step * (1 - 1e-9))
