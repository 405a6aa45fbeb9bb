"""`rgpipeline status`: how far a job is, told from its output folder alone."""

import json
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rgpipeline.cli.options import Json, Output, Storage, storage_options
from rgpipeline.wording import count, duration, rate, share, time_left

if TYPE_CHECKING:
    from rgpipeline.output import Status


def status(
    output: Output,
    as_json: Json = False,
    watch: Annotated[
        float | None,
        typer.Option(
            "--watch", metavar="SECONDS", min=1, help="Say it again every so often, to the end."
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
    from rgpipeline.output import read_heartbeat, read_status
    from rgpipeline.storage.store import open_store

    options = storage_options(storage)
    while True:
        now = read_status(output, options)
        if as_json:
            typer.echo(json.dumps(now.to_json()))
        else:
            said = read_heartbeat(open_store(output, options))
            typer.echo(status_text(output, now, said.details if said else {}))
        if watch is None or now.state in ("finished", "failed"):
            return 0
        time.sleep(watch)


def status_text(output: str, status: "Status", details: Mapping[str, Any]) -> str:
    """A status as lines for a person; `details` are the heartbeat's."""
    lines = [*_lines(status, bool(details.get("eta_at_most"))), *_told(status, details)]
    return "\n".join([f"{output}: {status.state}", *(f"  {line}" for line in lines)])


def _told(status: "Status", details: Mapping[str, Any]) -> Iterator[str]:
    if status.state == "running":
        if details.get("reading"):
            yield f"now      {details['reading']}"
        if details.get("waiting_for"):
            yield f"waits    for {details['waiting_for']}"
        for warning in details.get("warnings") or ():
            yield f"warning  {warning}"
    elif status.state == "failed" and details.get("message"):
        yield f"why      {details['message']}"
    for warning in status.warnings:
        yield f"warning  {warning}"


def _lines(status: "Status", at_most: bool) -> Iterator[str]:
    finished = status.rows_done + status.rows_failed
    yield (
        f"rows     {count(finished)} of {count(status.rows)} ({share(finished, status.rows)}), "
        f"{count(status.rows_failed)} failed"
    )
    yield (
        f"tokens   {count(status.completion_tokens)} generated, "
        f"{count(status.prompt_tokens)} of prompts"
    )
    yield f"shards   {count(status.shards_finished)} of {count(status.shards)}"
    if status.state == "running":
        yield f"workers  {count(status.workers)}, {rate(status.tokens_per_second)}"
        yield f"left     {time_left(status.eta_seconds, at_most)}"
    if status.updated is not None:
        yield f"heard    {duration(max(0.0, time.time() - status.updated))} ago"
