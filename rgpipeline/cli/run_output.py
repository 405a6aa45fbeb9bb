"""What `run` prints: its summary and some completions, or with `--dry-run` what would run."""

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from rgpipeline.output import JobFolder, WholeText, read_progress, whole_texts
from rgpipeline.output.job_status import Summary
from rgpipeline.plan import Plan, make_plan
from rgpipeline.plan.plan_files import check_folder, read_plan
from rgpipeline.spec import Job
from rgpipeline.storage.reachable import check_reachable
from rgpipeline.storage.store import open_store
from rgpipeline.tasks import task_of
from rgpipeline.wording import count, counted, duration, rate, size

_HEADINGS = {"finished": "green", "interrupted": "yellow", "failed": "red"}
_SAMPLE_CHARACTERS = 600
_SEARCHED = 200  # the first completions, of which samples are shown
_COLUMNS = 100


def print_summary(console: Console, job: Job, summary: Summary) -> None:
    """Prints rows, tokens, speed, the output's address, and what to do next."""
    console.print(Text(_heading(summary), f"bold {_HEADINGS[summary.outcome]}"))
    for name, value in _facts(job, summary):
        console.print(Text.assemble((f"  {name:<9}", "dim"), value))


def print_samples(console: Console, job: Job, wanted: int) -> None:
    """Prints some completions of the job, each after its prompt."""
    texts = list(islice(_readable(job), _SEARCHED))
    step = max(1, len(texts) // max(wanted, 1))
    for text in texts[::step][:wanted]:
        prompt = _prompt(job, text)
        written = text.text if prompt else text.text.lstrip()
        body = Text.assemble((prompt, "bold"), _shortened(written.rstrip()))
        console.print()
        console.print(Text(f"  {text.id}", "dim"))
        for line in body.wrap(console, min(console.width, _COLUMNS) - 4):
            line.rstrip()
            console.print(Text("  ").append_text(line))


def _heading(summary: Summary) -> str:
    if summary.already_done:
        failed = f", {count(summary.rows_failed)} of them failed" if summary.rows_failed else ""
        return f"All {counted(summary.rows, 'row')} are done already{failed}; nothing to generate."
    if summary.outcome == "finished":
        return f"Finished in {duration(summary.seconds)}."
    if summary.outcome == "interrupted":
        return "Interrupted; the same command resumes it."
    return f"Failed: {summary.message}"


def _facts(job: Job, summary: Summary) -> Iterator[tuple[str, str]]:
    left = summary.rows - summary.rows_done - summary.rows_failed
    rows = [f"{count(summary.rows_done)} done", f"{count(summary.rows_failed)} failed"]
    yield "rows", ", ".join([*rows, f"{count(left)} to do"] if left else rows)
    yield (
        "tokens",
        f"{count(summary.completion_tokens)} {task_of(job).done}, "
        f"{count(summary.prompt_tokens)} of prompts",
    )
    if summary.generated_tokens:
        # Idle workers also do rows that others have, so some tokens are generated twice.
        twice = summary.generated_tokens > summary.completion_tokens
        tokens = f"{count(summary.generated_tokens)} tokens in this run"
        tokens += ", some of them twice" if twice else ""
        yield "speed", f"{rate(summary.tokens_per_second)} ({tokens})"
    yield "output", summary.output
    if summary.warning:
        yield "warning", summary.warning
    if summary.rows_failed:
        yield "failed", f"rgpipeline retry {summary.output} --output NEW   does them again"
    if summary.rows_done:
        texts = f"rgpipeline cat {summary.output}   or " if task_of(job).writes_texts else ""
        yield "read it", f"{texts}pandas.read_parquet({summary.output!r})"


def _readable(job: Job) -> Iterator[WholeText]:
    if not task_of(job).writes_texts:
        return
    folder = JobFolder.open(job.output.path, job.storage_options)
    for text in whole_texts(folder):
        if text.finish_reason in ("stop", "length") and text.text.strip():
            yield text


def _prompt(job: Job, text: WholeText) -> str:
    prompt = text.kept.get(job.input.columns.prompt or "")
    return _shortened(prompt.lstrip()) if isinstance(prompt, str) else ""


def _shortened(text: str) -> str:
    if len(text) <= _SAMPLE_CHARACTERS:
        return text
    return f"{text[:_SAMPLE_CHARACTERS].rstrip()} … ({count(len(text))} characters)"


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
        typer.echo(json.dumps(_dry_run_json(job, plan, done, warnings)))
        return 0
    typer.echo("\n".join(_dry_run_lines(job, plan, done, begun is not None)))
    for warning in (*warnings, *plan.warnings):
        typer.echo(f"  warning  {warning}")
    return 0


def _dry_run_json(job: Job, plan: Plan, done: int, warnings: tuple[str, ...]) -> dict[str, Any]:
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


def _dry_run_lines(job: Job, plan: Plan, done: int, begun: bool) -> Iterator[str]:
    files = f"{counted(len(plan.files), 'file')}, {size(sum(file.size for file in plan.files))}"
    sampling = job.sampling.model_dump(mode="json", exclude_defaults=True)
    changed = ", ".join(f"{n} {json.dumps(v)}" for n, v in sampling.items()) or "as by default"
    state = f"{count(done)} of {count(plan.rows)} rows are done" if begun else "new"
    yield f"{job.name}: nothing was run; a run would do this"
    yield f"  task     {job.task}"
    adapter = "" if job.model.adapter is None else f" with the adapter {job.model.adapter}"
    precision = f"{job.model.dtype}, quantize {job.model.quantize}"
    yield f"  model    {job.model.weights}{adapter} ({precision})"
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
