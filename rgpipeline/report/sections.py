"""The page's sections: the charts, tables and words of each."""

import math
from dataclasses import replace
from typing import Any

from markupsafe import Markup

from rgpipeline.report.charts import (
    Area,
    Axis,
    TimelineRow,
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
_LOSSES = 50  # rows of their table
_KINDS = 12  # of errors
_FEWEST_LENGTHS = 12  # on the axis, so that a single length is a narrow bar
_TEXT = 700  # characters of a sample
_STEPS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 86400)
_COLOURS = {"stop": 2, "length": 0, "error": 4}  # of finish reasons; a task's own has that of stop


def throughput_section(history: History) -> dict[str, Any]:
    """Tokens a second, stacked by worker; the names are from the bottom up."""
    areas = [Area(layer.name or "all others", layer.values) for layer in history.layers]
    totals = [sum(values) for values in zip(*(a.values for a in areas), strict=True)] or [0.0]
    y = linear(max(totals), amount)
    chart = stacked(history.bins.middles(), areas, _time_axis(history), y)
    return {"chart": chart, "names": [area.name for area in areas]}


def occupancy_chart(history: History) -> Markup:
    """Share of slots in use over time."""
    y = Axis(0.0, 1.0, (0.0, 0.25, 0.5, 0.75, 1.0), lambda value: f"{100 * value:.0f}%")
    points = list(zip(history.bins.middles(), history.occupancy, strict=True))
    return line(points, _time_axis(history), y, dots=False)


def positions_chart(history: History) -> Markup | None:
    """Tokens a second and slot, by position; None when nothing was logged."""
    if not history.positions:
        return None
    points = [(math.log2(position) + 0.5, speed) for position, speed in history.positions]
    low, high = math.floor(points[0][0]), math.ceil(points[-1][0])
    x = doublings(low, high, lambda power: amount(2**power))
    return line(points, x, linear(max(speed for _, speed in points), amount), dots=True)


def timeline_section(history: History) -> dict[str, Any] | None:
    """Workers' lives, and a table of those that were lost."""
    if not history.lives:
        return None
    lost = [life for life in history.lives if life.how in ("died", "killed")]
    shown = history.lives
    if len(shown) > _LIVES:  # lost workers first: they are what one looks for
        first = [*lost, *(life for life in shown if life not in lost)][:_LIVES]
        shown = sorted(first, key=lambda life: life.start)
    hidden = len(history.lives) - len(shown)
    what = f"{counted(len(history.lives), 'worker')}, {counted(len(lost), 'loss', 'losses')}."
    more = f" {count(hidden)} that met with nothing are not drawn." if hidden else ""
    return {
        "text": f"{what} Pale: opening the model; full: at work; red: lost.{more}",
        "chart": timeline([_timeline_row(life) for life in shown], _time_axis(history)),
        "losses": [
            {"worker": life.worker, "after": duration(life.end), "how": life.how}
            | {"reason": life.reason}
            for life in lost[:_LOSSES]
        ],
    }


def lengths_section(rows: RowFacts) -> dict[str, Any] | None:
    """A histogram of completions' lengths, in tokens."""
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
        "text": f"Tokens of each completion: {count(middle)} in the middle, nine in ten at most "
        f"{count(most)}, the longest {count(max(rows.lengths))}.",
    }


def reasons_section(rows: RowFacts) -> list[dict[str, Any]]:
    """Counts of finish reasons, errors last."""
    total = sum(rows.reasons.values())
    names = dict.fromkeys(["stop", "length", *sorted(rows.reasons.keys() - {"error"}), "error"])
    return [
        {"name": name, "count": rows.reasons[name], "text": count(rows.reasons[name])}
        | {"share": share(rows.reasons[name], total), "colour": _COLOURS.get(name, 2)}
        for name in names
        if rows.reasons[name]
    ]


def grammars_note(rows: RowFacts, job: Job) -> str:
    """What became of grammars: rows refused for theirs, and texts cut; empty without any."""
    refused, cut = rows.refused_grammars, rows.reasons["length"]
    whole = job.sampling.structured_outputs is not None
    if not (whole or refused):
        return ""
    note = f"Structured output: {counted(refused, 'row')} refused for the grammar"
    return f"{note}, {counted(cut, 'text')} cut by max_tokens." if whole else f"{note}."


def failures_section(rows: RowFacts, failed: int) -> dict[str, Any] | None:
    """Errors with their counts, and the first rows that failed."""
    if not rows.failures:
        return None
    shown = len(rows.failures)
    first = f" The first {count(shown)} are listed." if sum(rows.errors.values()) > shown else ""
    return {
        "text": f"{counted(failed, 'row')} failed.{first}",
        "kinds": [(kind, count(many)) for kind, many in rows.errors.most_common(_KINDS)],
        "rows": rows.failures,
    }


def samples_section(rows: RowFacts, job: Job) -> list[dict[str, str]]:
    """Some completions to read, each after its prompt where the output keeps it."""
    return [
        {
            "about": f"{text.id} · {count(text.completion_tokens)} tokens · "
            f"{text.finish_reason or 'unfinished'}",
            "prompt": _cut(str(text.kept.get(job.input.columns.prompt or "") or "").lstrip()),
            "text": _cut(text.text.rstrip()),
        }
        for text in rows.samples
    ]


def _time_axis(history: History) -> Axis:
    axis = exact(history.axis.total, _STEPS, lambda seconds: duration(seconds) if seconds else "0")
    return replace(axis, breaks=history.axis.offsets[1:])


def _timeline_row(life: WorkerLife) -> TimelineRow:
    where = f" on {life.host}" if life.host else ""
    lasted = f"{duration(life.seconds)}, {life.how}"
    reason = f": {life.reason}" if life.reason else ""
    title = f"{life.worker}{where}: {lasted}{reason}"
    return TimelineRow(life.worker, life.start, life.ready, life.end, life.how, title)


def _range(start: int, stop: int) -> str:
    return count(start) if start == stop else f"{count(start)}–{count(stop)}"


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT else text[:_TEXT].rstrip() + " …"
