"""The page's sections: what each shows, worded and drawn."""

import math
from dataclasses import replace
from typing import Any

from markupsafe import Markup

from rgpipeline.report.charts import (
    Area,
    Axis,
    Stay,
    bars,
    between,
    doublings,
    exact,
    line,
    linear,
    stacked,
    timeline,
)
from rgpipeline.report.row_figures import RowFacts, histogram
from rgpipeline.report.run_history import History, WorkerLife
from rgpipeline.spec import Job
from rgpipeline.wording import amount, count, counted, duration, share

_LIVES = 40  # rows of the time line
_LOSSES = 50
_KINDS = 12
_FEWEST_LENGTHS = 12  # on the axis, so that a single bar is one
_TEXT = 700  # characters of a sample
_STEPS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 86400)
_COLOURS = {"stop": 2, "length": 0, "error": 4}  # of finish reasons; a task's own has that of stop


def throughput_section(told: History) -> dict[str, Any]:
    """Stacked rates, and the layers' names from the bottom up."""
    areas = [Area(layer.name or "all others", layer.values) for layer in told.layers]
    totals = [sum(values) for values in zip(*(a.values for a in areas), strict=True)] or [0.0]
    y = linear(max(totals), amount)
    chart = stacked(told.bins.middles(), areas, _time_axis(told), y)
    return {"chart": chart, "names": [area.name for area in areas]}


def occupancy_chart(told: History) -> Markup:
    """Choice of slots in use over time."""
    y = Axis(0.0, 1.0, (0.0, 0.25, 0.5, 0.75, 1.0), lambda value: f"{100 * value:.0f}%")
    points = list(zip(told.bins.middles(), told.occupancy, strict=True))
    return line(points, _time_axis(told), y, dots=False)


def positions_chart(told: History) -> Markup | None:
    """Tokens a second and slot, by position; None when nothing was logged."""
    if not told.positions:
        return None
    points = [(math.log2(position) + 0.5, speed) for position, speed in told.positions]
    low, high = math.floor(points[0][0]), math.ceil(points[-1][0])
    x = doublings(low, high, lambda power: amount(2**power))
    return line(points, x, linear(max(speed for _, speed in points), amount), dots=True)


def timeline_section(told: History) -> dict[str, Any] | None:
    """Workers' lives, and the deaths among them."""
    if not told.lives:
        return None
    lost = [life for life in told.lives if life.how in ("died", "killed")]
    shown = told.lives
    if len(shown) > _LIVES:  # the unlucky ones are what one looks for
        shown = sorted([*lost, *(life for life in shown if life not in lost)][:_LIVES], key=_start)
    hidden = len(told.lives) - len(shown)
    what = f"{counted(len(told.lives), 'worker')}, {counted(len(lost), 'loss', 'losses')}."
    more = f" {count(hidden)} that met with nothing are not drawn." if hidden else ""
    return {
        "told": f"{what} Pale: opening the model; full: at work; red: lost.{more}",
        "chart": timeline([_stay(life) for life in shown], _time_axis(told)),
        "losses": [
            {"worker": life.worker, "after": duration(life.end), "how": life.how}
            | {"reason": life.reason}
            for life in lost[:_LOSSES]
        ],
    }


def lengths_section(rows: RowFacts) -> dict[str, Any] | None:
    """The distribution of completions' lengths, in tokens."""
    found = histogram(rows.lengths)
    if not found:
        return None
    low, high = found[0][0], found[-1][1] + 1
    y = linear(max(samples for _, _, samples in found), amount)
    margin = max(0, _FEWEST_LENGTHS - (high - low)) / 2
    x = between(0 if low < high / 4 else low - margin, high + margin, amount)
    drawn = [
        (start, stop + 1, samples, f"{_range(start, stop)} tokens: {count(samples)}")
        for start, stop, samples in found
    ]
    middle, most = rows.quantile(0.5), rows.quantile(0.9)
    return {
        "chart": bars(drawn, x, y),
        "told": f"Tokens of each completion: {count(middle)} in the middle, nine in ten at most "
        f"{count(most)}, the longest {count(max(rows.lengths))}.",
    }


def reasons_section(rows: RowFacts) -> list[dict[str, Any]]:
    """Counts of finish reasons, errors last."""
    total = sum(rows.reasons.values())
    names = dict.fromkeys(["stop", "length", *sorted(rows.reasons.keys() - {"error"}), "error"])
    return [
        {"name": name, "count": rows.reasons[name], "told": count(rows.reasons[name])}
        | {"share": share(rows.reasons[name], total), "colour": _COLOURS.get(name, 2)}
        for name in names
        if rows.reasons[name]
    ]


def failures_section(rows: RowFacts, failed: int) -> dict[str, Any] | None:
    """Reasons with their counts, and the rows themselves, as many as a person may want to see."""
    if not rows.failures:
        return None
    shown = len(rows.failures)
    first = f" The first {count(shown)} are listed." if sum(rows.errors.values()) > shown else ""
    return {
        "told": f"{counted(failed, 'row')} failed.{first}",
        "kinds": [(kind, count(many)) for kind, many in rows.errors.most_common(_KINDS)],
        "rows": rows.failures,
    }


def samples_section(rows: RowFacts, job: Job) -> list[dict[str, str]]:
    """Completions to read, each after its prompt where that was kept."""
    return [
        {
            "about": f"{text.id} · {count(text.completion_tokens)} tokens · "
            f"{text.finish_reason or 'goes on'}",
            "prompt": _cut(str(text.kept.get(job.input.columns.prompt or "") or "").lstrip()),
            "text": _cut(text.text.rstrip()),
        }
        for text in rows.samples
    ]


def _time_axis(told: History) -> Axis:
    axis = exact(told.axis.total, _STEPS, lambda seconds: duration(seconds) if seconds else "0")
    return replace(axis, breaks=told.axis.offsets[1:])


def _stay(life: WorkerLife) -> Stay:
    where = f" on {life.host}" if life.host else ""
    lasted = f"{duration(life.end - life.start)}, {life.how}"
    reason = f": {life.reason}" if life.reason else ""
    told = f"{life.worker}{where}: {lasted}{reason}"
    return Stay(life.worker, life.start, life.ready, life.end, life.how, told)


def _start(life: WorkerLife) -> float:
    return life.start


def _range(start: int, stop: int) -> str:
    return count(start) if start == stop else f"{count(start)}–{count(stop)}"


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT else text[:_TEXT].rstrip() + " …"
