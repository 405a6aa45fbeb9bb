"""The page: figures into words and charts, and these into the template."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from rgpipeline import __version__
from rgpipeline.errors import OutputError
from rgpipeline.output import Status, read_status
from rgpipeline.output.published_parts import open_job
from rgpipeline.plan import Plan
from rgpipeline.plan.engine_settings import divisions
from rgpipeline.report.row_figures import row_facts
from rgpipeline.report.run_events import Event, Run, read_runs
from rgpipeline.report.run_history import History, history
from rgpipeline.report.sections import (
    failures_section,
    lengths_section,
    occupancy_chart,
    positions_chart,
    reasons_section,
    samples_section,
    throughput_section,
    timeline_section,
)
from rgpipeline.spec import Job
from rgpipeline.storage.filesystems import StorageOptions
from rgpipeline.storage.store import Store
from rgpipeline.wording import count, counted, duration, rate, share, size


def write_report(url: str, to: Path, storage_options: StorageOptions | None = None) -> None:
    """Writes the report of the job whose output is at `url` to a file.

    Raises OutputError when `url` is no job's output or the file can't be written.
    """
    page = render_report(url, storage_options)
    try:
        to.write_text(page, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise OutputError(f"{to}: the report can't be written there ({error.strerror})") from error


def render_report(url: str, storage_options: StorageOptions | None = None) -> str:
    """The report as HTML, of what is published and logged at this moment."""
    store, job, plan = open_job(url, storage_options)
    status = read_status(url, storage_options)
    runs = read_runs(store)
    told = history(runs)
    rows = row_facts(url, job, storage_options)
    folder = files("rgpipeline.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    template = environment.from_string((folder / "page.html").read_text(encoding="utf-8"))
    context: dict[str, Any] = {
        "style": Markup((folder / "style.css").read_text(encoding="utf-8")),
        "version": __version__,
        "output": url,
        "job": job,
        "status": status,
        "when": _when(status.updated),
        "runs": len(runs),
        "tiles": tiles(status, runs, told),
        "throughput": told and throughput_section(told),
        "positions": told and positions_chart(told),
        "occupancy": told and occupancy_chart(told),
        "timeline": told and timeline_section(told),
        "lengths": lengths_section(rows),
        "reasons": reasons_section(rows),
        "failures": failures_section(rows, status.rows_failed),
        "samples": samples_section(rows, job),
        "facts": job_facts(store, job, plan, runs, told),
        "job_yaml": yaml.safe_dump(job.model_dump(mode="json"), sort_keys=False),
    }
    return template.render(context)


def _when(updated: float | None) -> str:
    return "" if updated is None else f"{datetime.fromtimestamp(updated, UTC):%Y-%m-%d %H:%M} UTC"


def tiles(status: Status, runs: Sequence[Run], told: History | None) -> list[tuple[str, str]]:
    """The figures one looks for first: (value, name)."""
    finished = status.rows_done + status.rows_failed
    failed = f", {count(status.rows_failed)} failed" if status.rows_failed else ""
    found = [
        (
            count(finished),
            f"of {counted(status.rows, 'row')} ({share(finished, status.rows)}){failed}",
        ),
        (count(status.completion_tokens), "tokens generated"),
        (count(status.prompt_tokens), "tokens of prompts"),
    ]
    if told is not None:
        seconds = sum(run.ended - run.began for run in runs)
        tokens = sum(sum(layer.values) for layer in told.layers) * told.bins.width
        found.append((rate(tokens / max(seconds, 1e-9)), "mean over the whole time"))
        found.append((duration(seconds), f"running, in {counted(len(runs), 'run')}"))
        found.append((_hours(_worker_seconds(told)), _device_words(_chips(runs), told)))
    return found


def job_facts(
    store: Store, job: Job, plan: Plan, runs: Sequence[Run], told: History | None
) -> Iterator[tuple[str, str]]:
    """(name, value) of what a person comparing two runs wants to know."""
    began = _began(runs)
    yield "task", job.task
    yield "weights", job.model.weights
    for (data, model), engine in sorted(divisions(store, job.engine).items()):
        divided = "" if data * model == 1 else f", on data {data} × model {model} chips"
        yield "arithmetic", f"{engine.dtype}, quantize {engine.quantize}"
        yield (
            "engine",
            f"{count(engine.slots)} slots, prefill chunks of {count(engine.prefill_chunk)}, "
            f"{_steps(engine.steps_per_dispatch)} a dispatch{divided}",
        )
    size_of = size(sum(file.size for file in plan.files))
    yield "input", f"{counted(plan.rows, 'row')} in {counted(len(plan.files), 'file')}, {size_of}"
    yield "shards", count(len(plan.shards))
    yield "plan", plan.fingerprint
    if began is not None:
        yield "accelerator", began.text("accelerator") or "unknown"
        yield from _versions(began)
    if told is not None and _chips(runs):
        yield "devices", f"{count(_chips(runs))} to a worker"


def _steps(number: int | None) -> str:
    return "as many steps as each worker finds best" if number is None else counted(number, "step")


def _versions(began: Event) -> Iterator[tuple[str, str]]:
    versions = began.facts.get("versions")
    for name, version in versions.items() if isinstance(versions, dict) else ():
        yield str(name), str(version)


def _began(runs: Sequence[Run]) -> Event | None:
    events = (event for run in reversed(runs) for event in run.events)
    return next((e for e in events if e.kind == "run" and e.text("what") == "began"), None)


def _chips(runs: Sequence[Run]) -> int:
    began = _began(runs)
    return int(began.number("chips")) if began is not None else 0


def _worker_seconds(told: History) -> float:
    return sum(life.end - life.start for life in told.lives)


def _device_words(chips: int, told: History) -> str:
    devices = chips * _worker_seconds(told)
    return f"of workers; {_hours(devices)} of devices" if chips else "of workers"


def _hours(seconds: float) -> str:
    return duration(seconds) if seconds < 3600 else f"{seconds / 3600:,.1f} h"
