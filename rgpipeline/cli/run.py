"""`rgpipeline run`: a job, from here, until it is done."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from rgpipeline.cli.options import Address, JobFile, Overrides

if TYPE_CHECKING:
    from rich.console import Console

    from rgpipeline.output.summary import Summary
    from rgpipeline.spec import Job


def run(
    job: JobFile,
    overrides: Overrides = None,
    address: Address = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run, and run nothing.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary as JSON; progress goes to stderr.")
    ] = False,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples", min=0, help="Completions to show at the end; default 3 on a terminal."
        ),
    ] = None,
    ticker: Annotated[
        bool, typer.Option("--ticker", help="Show the newest completion while it runs.")
    ] = False,
) -> int:
    """Run a job. Running the same job again resumes it, or says that all is done.

    \b
    Examples:
      rgpipeline run jobs/demo.yaml
      rgpipeline run job.yaml --set sampling.temperature=0.2 --set output.path=out/cold
      rgpipeline run job.yaml --set 'sampling.stop=["\\n\\n"]' --set input.limit=100
      rgpipeline run job.yaml --dry-run

    Ctrl-C stops gently: what is finished is published, long sequences are saved. Ctrl-C again
    stops at once; nothing that was published is lost either way.
    """
    from rgpipeline.jobfile import load_job

    loaded = load_job(job, overrides or ())
    if dry_run:
        from rgpipeline.cli.rehearsal import print_rehearsal

        return print_rehearsal(loaded, as_json=as_json)
    return run_job(loaded, address=address, as_json=as_json, samples=samples, ticker=ticker)


def run_job(
    job: "Job",
    *,
    address: str = "auto",
    as_json: bool = False,
    samples: int | None = None,
    ticker: bool = False,
) -> int:
    """Runs a job with its progress shown; returns the exit code."""
    from rgpipeline.cli.ending import print_samples, print_summary, summary_json
    from rgpipeline.cli.terminal import console

    screen = console(sys.stderr if as_json else sys.stdout)
    screen.print(f"{job.name}: {job.model.weights} → {job.output.path}")
    summary = _run(job, address, screen, ticker)
    if as_json:
        print(summary_json(summary))
        return summary.exit_code
    wanted = (3 if screen.is_terminal else 0) if samples is None else samples
    if wanted and summary.outcome == "finished" and not summary.already_done:
        print_samples(screen, job, wanted)
        screen.print()
    print_summary(screen, job, summary)
    return summary.exit_code


def _run(job: "Job", address: str, screen: "Console", ticker: bool) -> "Summary":
    stop = threading.Event()
    with _interrupts_remembered(stop):
        from rgpipeline.cli.progress import Progress
        from rgpipeline.runtime import run as run_on_ray

        with Progress(screen, ticker=ticker, stop=stop) as progress:
            return run_on_ray(job, address=address, watch=progress, stop=stop)


@contextmanager
def _interrupts_remembered(stop: threading.Event) -> Iterator[None]:
    """A Ctrl-C while Ray is being imported may raise where nobody passes it on."""

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        stop.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
