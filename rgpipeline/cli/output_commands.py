"""The commands that take a job's output folder: status, stop, report and retry; cat is apart."""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rgpipeline.cli.exits import say_warning
from rgpipeline.cli.shared_options import Address, Json, Output, Overrides, Storage, storage_options
from rgpipeline.wording import count, counted, duration, rate, share, time_left

if TYPE_CHECKING:
    from rgpipeline.output import Status


def status(
    output: Output,
    as_json: Json = False,
    watch: Annotated[
        float | None,
        typer.Option(
            "--watch",
            metavar="SECONDS",
            min=1,
            help="Repeat it every so many seconds, until the job ends.",
        ),
    ] = None,
    storage: Storage = None,
) -> int:
    """Say how far a job is: rows, tokens, workers, time left. Works from anywhere.

    \b
    Examples:
      rgpipeline status gs://bucket/out/run-7
      rgpipeline status out/demo --json | jq .rows.done
      rgpipeline status out/demo --watch 10
    """
    from rgpipeline.output import JobFolder, read_status
    from rgpipeline.tasks import task_of

    folder = JobFolder.open(output, storage_options(storage))
    done = task_of(folder.job).done
    while True:
        now = read_status(folder)
        if as_json:
            typer.echo(json.dumps(now.to_json()))
        else:
            details = folder.heartbeat.details if folder.heartbeat else {}
            typer.echo(status_text(output, now, details, done))
        if watch is None or now.state in ("finished", "failed"):
            return 0
        time.sleep(watch)
        folder = folder.reread()


def status_text(output: str, status: "Status", details: Mapping[str, Any], done: str) -> str:
    """A status as lines for a person; `details`: of the heartbeat; `done`: see `Task.done`."""
    lines = [*_lines(status, bool(details.get("eta_at_most")), done), *_notes(status, details)]
    return "\n".join([f"{output}: {status.state}", *(f"  {line}" for line in lines)])


def _notes(status: "Status", details: Mapping[str, Any]) -> Iterator[str]:
    if status.state == "running":
        if details.get("reading"):
            yield f"now      {details['reading']}"
        if details.get("waiting_for"):
            yield f"waiting  for {details['waiting_for']}"
        for warning in details.get("warnings") or ():
            yield f"warning  {warning}"
    elif status.state == "failed" and details.get("message"):
        yield f"reason   {details['message']}"
    for warning in status.warnings:
        yield f"warning  {warning}"


def _lines(status: "Status", at_most: bool, done: str) -> Iterator[str]:
    finished = status.rows_done + status.rows_failed
    yield (
        f"rows     {count(finished)} of {count(status.rows)} ({share(finished, status.rows)}), "
        f"{count(status.rows_failed)} failed"
    )
    yield (
        f"tokens   {count(status.completion_tokens)} {done}, "
        f"{count(status.prompt_tokens)} of prompts"
    )
    yield f"shards   {count(status.shards_finished)} of {count(status.shards)}"
    if status.state == "running":
        yield f"workers  {count(status.workers)}, {rate(status.tokens_per_second)}"
        yield f"left     {time_left(status.eta_seconds, at_most)}"
    if status.updated is not None:
        yield f"updated  {duration(max(0.0, time.time() - status.updated))} ago"


def stop(output: Output, storage: Storage = None) -> int:
    """Stop a running job from anywhere: it publishes finished rows, saves long ones, and ends.

    \b
    Example:
      rgpipeline stop gs://bucket/out/run-7

    The job's own command ends with code 130; running it again resumes the job.
    """
    from rgpipeline.output import JobFolder
    from rgpipeline.output.job_folder import request_stop

    folder = JobFolder.open(output, storage_options(storage))
    if folder.heartbeat is None or not folder.heartbeat.runs_at(time.time()):
        typer.echo(f"{output}: no driver is running it; there is nothing to stop.")
        return 0
    request_stop(folder.store)
    typer.echo(f"{output}: asked to stop; `rgpipeline status {output}` shows when it has.")
    return 0


def report(
    output: Output,
    to: Annotated[
        Path, typer.Option("--to", metavar="FILE", help="Where the page is written.")
    ] = Path("report.html"),
    storage: Storage = None,
) -> int:
    """Write a report of a job as one self-contained HTML page: rates, lengths, failures, samples.

    \b
    Examples:
      rgpipeline report out/demo
      rgpipeline report gs://bucket/out/run-7 --to run-7.html

    Works from the output folder alone, also while the job runs.
    """
    from rgpipeline.report import write_report

    write_report(output, to, storage_options(storage))
    typer.echo(f"{to}: the report of {output}; open it in a browser.")
    return 0


def retry(
    output: Output,
    new: Annotated[
        str,
        typer.Option("--output", metavar="NEW", help="Where the new job's completions go."),
    ],
    overrides: Overrides = None,
    address: Address = "auto",
    storage: Storage = None,
) -> int:
    """Run just the failed rows of a job again, as a new job with its own output.

    OUTPUT stays as it is, so its readers never see a row twice. Rows keep their ids, so they get
    the tokens that they would have got the first time.

    \b
    Examples:
      rgpipeline retry out/run-7 --output out/run-7-again
      rgpipeline retry out/run-7 --output out/again --set sampling.max_tokens=4096

    Rows are read from the input as it is now, so mend them first. The same command again resumes
    the new job.
    """
    from rgpipeline.cli.job_commands import run_job
    from rgpipeline.output.retry_job import prepare_retry

    prepared = prepare_retry(output, new, overrides or (), storage_options(storage))
    if prepared is None:
        typer.echo(f"{output}: no failed rows; there is nothing to retry.")
        return 0
    for reason in prepared.left_out:
        say_warning(f"rows left out, which can't be read: {reason}")
    typer.echo(f"{counted(prepared.rows, 'failed row')} of {output}")
    return run_job(prepared.job, address=address)
