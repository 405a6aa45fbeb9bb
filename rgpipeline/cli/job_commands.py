"""The commands that take a job file: run, submit and validate."""

import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from rgpipeline.cli.exits import say_error, say_warning
from rgpipeline.cli.shared_options import Address, JobFile, Json, Overrides
from rgpipeline.wording import counted

if TYPE_CHECKING:
    from rich.console import Console

    from rgpipeline.output.job_status import Summary
    from rgpipeline.plan import Plan
    from rgpipeline.spec import Job


def run(
    job: JobFile,
    overrides: Overrides = None,
    address: Address = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would run, and run nothing.")
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
        bool, typer.Option("--ticker", help="Show the latest completion while it runs.")
    ] = False,
) -> int:
    """Run a job. Running the same job again resumes it, or says that all is done.

    \b
    Examples:
      rgpipeline run jobs/demo.yaml
      rgpipeline run job.yaml --set sampling.temperature=0.2 --set output.path=out/cold
      rgpipeline run job.yaml --set 'sampling.stop=["\\n\\n"]' --set input.limit=100
      rgpipeline run job.yaml --dry-run

    Ctrl-C stops gently: finished rows are published, long sequences are saved. Ctrl-C again stops
    at once. Either way, nothing that is published is lost.
    """
    from rgpipeline.jobfile import load_job

    loaded = load_job(job, overrides or ())
    if dry_run:
        from rgpipeline.cli.run_output import print_dry_run

        return print_dry_run(loaded, as_json=as_json)
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
    from rgpipeline.cli.exits import console
    from rgpipeline.cli.run_output import print_samples, print_summary

    screen = console(sys.stderr if as_json else sys.stdout)
    screen.print(f"{job.name}: {job.model.weights} → {job.output.path}")
    summary = _run(job, address, screen, ticker)
    if as_json:
        print(json.dumps(asdict(summary)))
        return summary.exit_code
    wanted = (3 if screen.is_terminal else 0) if samples is None else samples
    if wanted and summary.outcome == "finished" and not summary.already_done:
        print_samples(screen, job, wanted)
        screen.print()
    print_summary(screen, job, summary)
    return summary.exit_code


def _run(job: "Job", address: str, screen: "Console", ticker: bool) -> "Summary":
    stop = threading.Event()
    with _interrupts_noted(stop):
        from rgpipeline.cli.progress import Progress
        from rgpipeline.runtime import run as run_on_ray

        with Progress(screen, ticker=ticker, stop=stop) as progress:
            return run_on_ray(job, address=address, watch=progress, stop=stop)


@contextmanager
def _interrupts_noted(stop: threading.Event) -> Iterator[None]:
    """Sets `stop` on Ctrl-C: code that runs while Ray is imported may swallow KeyboardInterrupt."""

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        stop.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def submit(
    job: JobFile,
    address: Annotated[
        str,
        typer.Option(
            "--address", metavar="URL", help="Of the cluster's dashboard: http://HOST:8265."
        ),
    ],
    overrides: Overrides = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Follow the job to its end, or return at once.")
    ] = True,
) -> int:
    """Submit a job to a Ray cluster, and follow it there.

    \b
    Examples:
      rgpipeline submit job.yaml --address http://127.0.0.1:8265
      rgpipeline submit job.yaml --address http://127.0.0.1:8265 --no-wait

    Paths in the job file are read on the cluster: use object stores, or a shared disk.
    """
    from rgpipeline.runtime.submission import submit as submit_to

    return submit_to(job, overrides or (), address, wait=wait, echo=typer.echo)


def validate(job: JobFile, overrides: Overrides = None, as_json: Json = False) -> int:
    """Find everything that can be found wrong with a job without running it, all at once.

    Looks at the job file, the input's files and columns, the weights and the tokenizer, and the
    output folder.

    \b
    Examples:
      rgpipeline validate job.yaml
      rgpipeline validate job.yaml --set input.path='s3://bucket/*.parquet' --json
    """
    from rgpipeline.validation.examination import examine

    found = examine(job, overrides or ())
    if as_json:
        typer.echo(json.dumps(found.to_json()))
        return 2 if found.faults else 0
    for warning in found.warnings:
        say_warning(warning)
    for fault in found.faults:
        say_error(fault)
    if found.faults:
        return 2
    plan = found.plan
    size = "" if plan is None else f": {_size(plan)}"
    ids = "; the column 'id' names the rows" if found.id_was_found else ""
    typer.echo(f"{job}: valid{size}{ids}")
    return 0


def _size(plan: "Plan") -> str:
    files = counted(len(plan.files), "file")
    return f"{counted(plan.rows, 'row')} in {files}, {counted(len(plan.shards), 'shard')}"
