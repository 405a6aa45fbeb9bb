"""`rgpipeline run`: a job, from here, until it is done."""

import sys
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from rgpipeline.cli.options import Address, JobFile, Overrides

if TYPE_CHECKING:
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
    from rgpipeline.cli.progress import Progress
    from rgpipeline.cli.terminal import console
    from rgpipeline.runtime import run as run_on_ray

    screen = console(sys.stderr if as_json else sys.stdout)
    screen.print(f"{job.name}: {job.model.weights} → {job.output.path}")
    stop = threading.Event()
    with Progress(screen, ticker=ticker, stop=stop) as progress:
        summary = run_on_ray(job, address=address, watch=progress, stop=stop)
    if as_json:
        print(summary_json(summary))
        return summary.exit_code
    wanted = (3 if screen.is_terminal else 0) if samples is None else samples
    if wanted and summary.outcome == "finished" and not summary.already_done:
        print_samples(screen, job, wanted)
        screen.print()
    print_summary(screen, job, summary)
    return summary.exit_code
