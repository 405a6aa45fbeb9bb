"""The report's page: its template filled with figures, charts and tables."""

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
from rgpipeline.output import JobFolder, Status, read_status
from rgpipeline.plan import Plan
from rgpipeline.plan.resolved_settings import mesh_shapes
from rgpipeline.report.row_figures import row_facts
from rgpipeline.report.run_history import History, Run, read_history, read_runs
from rgpipeline.report.sections import (
    failures_section,
    grammars_note,
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
from rgpipeline.tasks import task_of
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
    folder = JobFolder.open(url, storage_options)
    store, job = folder.store, folder.job
    status = read_status(folder)
    runs = read_runs(store)
    history = read_history(runs)
    rows = row_facts(folder)
    sources = files("rgpipeline.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    template = environment.from_string((sources / "page.html").read_text(encoding="utf-8"))
    context: dict[str, Any] = {
        "style": Markup((sources / "style.css").read_text(encoding="utf-8")),
        "version": __version__,
        "output": url,
        "job": job,
        "status": status,
        "when": _when(status.updated),
        "runs": len(runs),
        "tiles": tiles(status, runs, history, task_of(job).done),
        "done": task_of(job).done,
        "throughput": history and throughput_section(history),
        "positions": history and positions_chart(history),
        "occupancy": history and occupancy_chart(history),
        "timeline": history and timeline_section(history),
        "lengths": lengths_section(rows),
        "reasons": reasons_section(rows),
        "grammars": grammars_note(rows, job),
        "failures": failures_section(rows, status.rows_failed),
        "samples": samples_section(rows, job),
        "facts": job_facts(store, job, folder.plan, history),
        "job_yaml": yaml.safe_dump(job.model_dump(mode="json"), sort_keys=False),
    }
    return template.render(context)


def _when(updated: float | None) -> str:
    return "" if updated is None else f"{datetime.fromtimestamp(updated, UTC):%Y-%m-%d %H:%M} UTC"


def tiles(
    status: Status, runs: Sequence[Run], history: History | None, done: str
) -> list[tuple[str, str]]:
    """The figures at the top: (value, name). `done`: see `Task.done`."""
    finished = status.rows_done + status.rows_failed
    failed = f", {count(status.rows_failed)} failed" if status.rows_failed else ""
    figures = [
        (
            count(finished),
            f"of {counted(status.rows, 'row')} ({share(finished, status.rows)}){failed}",
        ),
        (count(status.completion_tokens), f"tokens {done}"),
        (count(status.prompt_tokens), "tokens of prompts"),
    ]
    if history is not None:
        seconds = sum(run.ended - run.began for run in runs)
        tokens = sum(sum(layer.values) for layer in history.layers) * history.bins.width
        devices = history.device_seconds
        of = f"of workers; {_hours(devices)} of devices" if devices else "of workers"
        figures += [
            (rate(tokens / max(seconds, 1e-9)), "mean over the whole time"),
            (duration(seconds), f"running, in {counted(len(runs), 'run')}"),
            (_hours(history.worker_seconds), of),
        ]
    return figures


def _hours(seconds: float) -> str:
    return duration(seconds) if seconds < 3600 else f"{seconds / 3600:,.1f} h"


def job_facts(
    store: Store, job: Job, plan: Plan, history: History | None
) -> Iterator[tuple[str, str]]:
    """The table at the bottom, for comparing runs: (name, value)."""
    yield "task", job.task
    yield "weights", job.model.weights
    if job.model.adapter is not None:
        yield "adapter", job.model.adapter
    for (data, model), engine in sorted(mesh_shapes(store, job.engine).items()):
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
    began = history.began if history is not None else None
    if began is not None:
        yield "accelerator", began.accelerator or "unknown"
        yield from ((str(name), str(version)) for name, version in began.versions.items())
        if began.chips:
            yield "devices", f"{count(began.chips)} to a worker"


def _steps(number: int | None) -> str:
    return "as many steps as each worker finds best" if number is None else counted(number, "step")
