"""The progress of a running job: a live display, or a line every ten seconds."""

import io
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rgpipeline.cli.exits import console
from rgpipeline.dispatch.fleet import Phase
from rgpipeline.dispatch.job_view import JobView
from rgpipeline.wording import count, counted, duration, one_line, rate, share, time_left

LINE_EVERY_S = 10.0
STOPPING = (
    "Stopping: publishing finished rows, saving long ones. Another Ctrl-C stops at once; either "
    "way, the same command resumes from what is published."
)
_BAR = 40  # characters


class Progress:
    """Shows the progress of a running job on a console; pass it to `run` as `watch`.

    On a terminal and in a notebook, it redraws a display with every view; elsewhere it prints a
    line every ten seconds. Each warning is printed once. `stop`: the event given to `run`; once it
    is set, a line says that the job is stopping.
    """

    def __init__(
        self,
        screen: Console,
        *,
        ticker: bool = False,
        stop: threading.Event | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = screen
        self._ticker = ticker
        self._stop = stop
        self._clock = clock
        self._display: Live | NotebookDisplay | None = None
        if screen.is_jupyter:
            self._display = NotebookDisplay(screen.width)
        elif screen.is_terminal:
            self._display = Live(console=screen, auto_refresh=False, transient=True)
        self._said: set[str] = set()
        self._next_line = 0.0

    def __enter__(self) -> Self:
        if self._display is not None:
            self._display.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._display is not None:
            self._display.stop()

    def __call__(self, view: JobView) -> None:
        """Shows a view; called about once a second."""
        for warning in view.warnings:
            self._say_once(f"warning: {warning}")
        if self._stop is not None and self._stop.is_set():
            self._say_once(STOPPING)
        if self._display is not None:
            panel = _panel(view, self._ticker, self._console.width)
            self._display.update(panel, refresh=True)
        elif self._clock() >= self._next_line:
            self._next_line = self._clock() + LINE_EVERY_S
            self._say(progress_line(view))
            if self._ticker and view.latest_completion:
                self._say(f"  {one_line(view.latest_completion, 120)}")

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._say(text)

    def _say(self, text: str) -> None:
        """Prints a line that stays, above the display."""
        self._console.print(text, soft_wrap=True)


def show_progress(*, ticker: bool = False) -> Progress:
    """Progress on stdout or in a notebook's cell; `ticker` adds the latest completion.

    with show_progress() as progress:
        run(job, watch=progress)
    """
    return Progress(console(), ticker=ticker)


def progress_line(view: JobView) -> str:
    """A view on one line, for logs."""
    finished = view.rows_done + view.rows_failed
    parts = [
        f"rows {count(finished)}/{count(view.rows)} ({share(finished, view.rows)})",
        f"failed {count(view.rows_failed)}",
        f"tokens {count(view.completion_tokens)}",
        f"{rate(view.tokens_per_second)} (mean {rate(view.mean_tokens_per_second)})",
        _slots(view),
        _workers(view),
    ]
    if view.reading:
        parts.append(view.reading)
    if view.waiting_for:
        parts.append(f"waiting for {view.waiting_for}")
    return f"{time.strftime('%H:%M:%S')}  " + ", ".join([*parts, f"ETA {_eta(view)}"])


def _panel(view: JobView, ticker: bool, width: int) -> RenderableType:
    finished = view.rows_done + view.rows_failed
    grid = Table.grid(padding=(0, 2))
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        ProgressBar(total=max(view.rows, 1), completed=finished, width=min(_BAR, width // 3)),
        Text(f"{count(finished)} / {count(view.rows)} ({share(finished, view.rows)})", "bold"),
        Text(f"{count(view.rows_failed)} failed", "red") if view.rows_failed else Text(),
    )
    grid.add_row(Text("rows", "dim"), bar)
    grid.add_row(Text("tokens", "dim"), Text(_tokens(view)))
    grid.add_row(Text("workers", "dim"), Text(f"{_workers(view)} · {_slots(view)}"))
    grid.add_row(Text("time", "dim"), Text(f"{duration(view.seconds)} · left {_eta(view)}"))
    lines: list[RenderableType] = [grid]
    if view.reading:
        lines.append(Text(view.reading))
    if view.waiting_for:
        lines.append(Text(f"waiting for {view.waiting_for}", "yellow"))
    if ticker and view.latest_completion:
        lines.append(Text(one_line(view.latest_completion, width - 2), "italic dim"))
    return Group(*lines)


def _tokens(view: JobView) -> str:
    return (
        f"{count(view.completion_tokens)} · {rate(view.tokens_per_second)} now · "
        f"{rate(view.mean_tokens_per_second)} mean"
    )


def _workers(view: JobView) -> str:
    states = Counter(worker.state for worker in view.workers)
    workers = counted(states[Phase.READY.value], "worker")
    coming = states[Phase.PENDING.value] + states[Phase.STARTING.value]
    if coming:
        workers += f" ({coming} starting)"
    return f"{workers}, {counted(view.deaths, 'death')}" if view.deaths else workers


def _slots(view: JobView) -> str:
    slots = sum(worker.slots for worker in view.workers)
    occupied = sum(worker.occupied for worker in view.workers)
    waiting = sum(worker.waiting for worker in view.workers)
    text = f"slots {occupied}/{slots} ({share(occupied, slots)})"
    return f"{text}, {count(waiting)} waiting" if waiting else text


def _eta(view: JobView) -> str:
    return time_left(view.eta_seconds, view.eta_at_most)


class NotebookDisplay:
    """A display in a notebook's running cell, as plain text; needs only IPython."""

    def __init__(self, width: int) -> None:
        self._width = width  # characters
        self._handle: Any = None

    def start(self) -> None:
        from IPython.display import display

        self._handle = display(_bundle(""), raw=True, display_id=True)

    def update(self, shown: RenderableType, *, refresh: bool) -> None:
        file = io.StringIO()
        Console(file=file, width=self._width, force_jupyter=False).print(shown)
        self._handle.update(_bundle(file.getvalue()), raw=True)

    def stop(self) -> None:
        """Leaves what is shown as it is."""


def _bundle(text: str) -> dict[str, str]:
    return {"text/plain": text}
