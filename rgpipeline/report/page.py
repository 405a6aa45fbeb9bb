"""The page: figures into words and charts, and these into the template."""

from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from rgpipeline import __version__
from rgpipeline.errors import OutputError
from rgpipeline.output import read_status
from rgpipeline.output.dataset import open_job
from rgpipeline.report.events import read_runs
from rgpipeline.report.facts import job_facts, tiles
from rgpipeline.report.history import history
from rgpipeline.report.rows import row_facts
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
from rgpipeline.storage.filesystems import StorageOptions


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
