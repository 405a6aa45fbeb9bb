"""`rgpipeline run --dry-run`: what would run."""

import json
from collections.abc import Iterator
from typing import Any

import typer

from rgpipeline.output import JobFolder, read_progress
from rgpipeline.plan import Plan, make_plan
from rgpipeline.plan.plan_files import check_folder, read_plan
from rgpipeline.spec import Job
from rgpipeline.storage.reachable import check_reachable
from rgpipeline.storage.store import open_store
from rgpipeline.wording import count, counted, size


def print_dry_run(job: Job, *, as_json: bool) -> int:
    """Plans the job and prints what a run would do, without doing it. Returns the exit code."""
    check_reachable((url for _, url in job.urls()), job.storage_options)
    store = open_store(job.output.path, job.storage_options)
    warnings = check_folder(job, store)
    begun = read_plan(store)
    plan = begun or make_plan(job)
    done = 0
    if begun is not None:
        folder = JobFolder(store, job, begun, job.storage_options)
        done = sum(shard.rows_done + shard.rows_failed for shard in read_progress(folder))
    if as_json:
        typer.echo(json.dumps(_facts(job, plan, done, warnings)))
        return 0
    typer.echo("\n".join(_lines(job, plan, done, begun is not None)))
    for warning in (*warnings, *plan.warnings):
        typer.echo(f"  warning  {warning}")
    return 0


def _facts(job: Job, plan: Plan, done: int, warnings: tuple[str, ...]) -> dict[str, Any]:
    return {
        "name": job.name,
        "task": job.task,
        "weights": job.model.weights,
        "output": job.output.path,
        "rows": {"total": plan.rows, "finished": done},
        "files": [
            {"path": file.path, "rows": file.rows, "bytes": file.size} for file in plan.files
        ],
        "shards": len(plan.shards),
        "columns": {"kept": list(plan.kept)},
        "warnings": [*warnings, *plan.warnings],
    }


def _lines(job: Job, plan: Plan, done: int, begun: bool) -> Iterator[str]:
    files = f"{counted(len(plan.files), 'file')}, {size(sum(file.size for file in plan.files))}"
    sampling = job.sampling.model_dump(mode="json", exclude_defaults=True)
    changed = ", ".join(f"{n} {json.dumps(v)}" for n, v in sampling.items()) or "as by default"
    state = f"{count(done)} of {count(plan.rows)} rows are done" if begun else "new"
    yield f"{job.name}: nothing was run; a run would do this"
    yield f"  task     {job.task}"
    yield f"  model    {job.model.weights} ({job.model.dtype}, quantize {job.model.quantize})"
    yield f"  input    {counted(plan.rows, 'row')} in {files}"
    if plan.has_found_id(job):
        yield "             the column 'id' names the rows"
    for file in plan.files[:5]:
        yield f"             {file.path} ({counted(file.rows, 'row')})"
    if len(plan.files) > 5:
        yield f"             … and {count(len(plan.files) - 5)} more"
    yield f"  shards   {count(len(plan.shards))}, of {counted(plan.shards[0].rows, 'row')} at most"
    yield f"  sampling {changed}"
    yield f"  workers  {job.workers.count} on {job.workers.accelerator}"
    yield f"  output   {job.output.path}: {state}"
