"""The job in numbers and names: tiles at the top, facts at the bottom."""

from collections.abc import Iterator, Sequence

from rgpipeline.output import Status
from rgpipeline.plan import Plan
from rgpipeline.plan.settled import divisions
from rgpipeline.report.events import Event, Run
from rgpipeline.report.history import History
from rgpipeline.spec import Job
from rgpipeline.storage.store import Store
from rgpipeline.wording import count, counted, duration, rate, share, size


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
