"""What is shown while a job runs."""

import io
import re
import sys
import threading
from dataclasses import replace
from types import ModuleType

import pytest
from rich.console import Console

from rgpipeline.cli.progress import LINE_EVERY_S, STOPPING, Progress, progress_line
from rgpipeline.dispatch.fleet import Phase
from rgpipeline.dispatch.job_view import JobView, WorkerView

WORKERS = (
    WorkerView("w0", "here", Phase.READY.value, slots=64, occupied=61, waiting=40),
    WorkerView("w1", "", Phase.STARTING.value),
)
VIEW = JobView(
    rows=320,
    rows_done=209,
    rows_failed=3,
    prompt_tokens=2000,
    completion_tokens=31_204,
    shards=20,
    shards_finished=11,
    tokens_per_second=2310.4,
    mean_tokens_per_second=2180.0,
    eta_seconds=72.0,
    eta_at_most=False,
    seconds=41.0,
    deaths=0,
    waiting_for="",
    latest_completion="And he said,\nBehold.",
    warnings=(),
    workers=WORKERS,
)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def shown(*views: JobView, terminal: bool, step_s: float = 1.0, ticker: bool = False) -> str:
    """What is written while these views come, `step_s` apart."""
    file, clock = io.StringIO(), Clock()
    console = Console(file=file, force_terminal=terminal, width=100, no_color=not terminal)
    with Progress(console, ticker=ticker, clock=clock) as progress:
        for view in views:
            progress(view)
            clock.now += step_s
    return file.getvalue()


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_the_line_says_all_of_it() -> None:
    assert progress_line(VIEW).partition("  ")[2] == (
        "rows 212/320 (66%), failed 3, tokens 31,204, 2,310 tok/s (mean 2,180 tok/s), "
        "slots 61/64 (95%), 40 waiting, 1 worker (1 starting), ETA 1 min 12 s"
    )


def test_an_unknown_eta_is_not_made_up() -> None:
    assert progress_line(replace(VIEW, eta_seconds=None)).endswith("ETA ?")
    assert progress_line(replace(VIEW, eta_at_most=True)).endswith("ETA at most 1 min 12 s")


def test_the_line_says_what_is_waited_for() -> None:
    assert "waiting for room for 2 workers" in progress_line(
        replace(VIEW, waiting_for="room for 2 workers")
    )


READING = WorkerView(
    "w0", "here", Phase.READY.value, details={"reading_done": 1.2e6, "reading_tokens": 7.5e6}
)


def test_while_no_tokens_come_it_says_how_far_prompts_are_read() -> None:
    silent = replace(VIEW, tokens_per_second=0.0, workers=(READING,))
    told = "reading prompts: 1.2M of 7.5M tokens"
    assert told in progress_line(silent)
    assert told in plain(shown(silent, terminal=True))
    assert "reading" not in progress_line(replace(silent, tokens_per_second=5.0))
    assert "reading" not in progress_line(replace(silent, workers=()))


def test_lost_workers_are_counted() -> None:
    assert "1 worker (1 starting), 2 deaths" in progress_line(replace(VIEW, deaths=2))


def test_logs_get_a_line_in_ten_seconds() -> None:
    lines = shown(*[VIEW] * 25, terminal=False).splitlines()
    assert len(lines) == 3
    assert LINE_EVERY_S == 10.0


def test_logs_have_no_escape_codes() -> None:
    assert "\x1b" not in shown(VIEW, terminal=False)


def test_a_warning_is_said_once() -> None:
    warned = replace(VIEW, warnings=("b.parquet has no rows",))
    assert shown(warned, warned, terminal=False).count("warning: b.parquet has no rows") == 1


def test_the_ticker_shows_the_newest_completion_on_one_line() -> None:
    assert "\n  And he said, Behold.\n" in shown(VIEW, terminal=False, ticker=True)


def test_a_terminal_sees_rows_tokens_workers_time() -> None:
    told = plain(shown(VIEW, terminal=True))
    for part in (
        "212 / 320 (66%)",
        "3 failed",
        "31,204 · 2,310 tok/s now · 2,180 tok/s mean",
        "1 worker (1 starting) · slots 61/64 (95%), 40 waiting",
        "41 s · left 1 min 12 s",
    ):
        assert part in told


def test_a_terminal_keeps_warnings_above_the_display() -> None:
    told = plain(shown(VIEW, replace(VIEW, warnings=("beware",)), terminal=True))
    assert "warning: beware" in told


def test_nothing_is_lost_on_a_narrow_terminal() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=40)
    with Progress(console) as progress:
        progress(VIEW)
    assert "212 / 320" in plain(file.getvalue())


def test_who_stops_is_told_once_what_happens() -> None:
    stop, file = threading.Event(), io.StringIO()
    stop.set()
    with Progress(Console(file=file), stop=stop) as progress:
        progress(VIEW)
        progress(VIEW)
    assert file.getvalue().count(STOPPING) == 1


class Cell:
    """What a notebook offers: `display`, whose handle can be drawn anew."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def display(self, bundle: dict[str, str], *, raw: bool, display_id: bool) -> "Cell":
        assert raw
        assert display_id
        return self

    def update(self, bundle: dict[str, str], *, raw: bool) -> None:
        self.shown.append(bundle["text/plain"])


def test_a_notebook_sees_the_same_in_its_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Cell()
    module = ModuleType("IPython.display")
    module.display = cell.display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    with Progress(Console(force_jupyter=True)) as progress:
        progress(VIEW)
    assert "212 / 320 (66%)" in cell.shown[0]
    assert "\x1b" not in cell.shown[0]
