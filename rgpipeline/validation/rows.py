"""A look at the first rows: which of them would fail."""

from collections.abc import Iterator

from rgpipeline.errors import RowError
from rgpipeline.plan import Plan
from rgpipeline.records import Shard
from rgpipeline.spec import Job
from rgpipeline.storage.filesystems import resolve_options
from rgpipeline.text.stops import never_found
from rgpipeline.text.tokenizer import Tokenizer
from rgpipeline.worker.worker_setup import open_prompts

_ROWS = 1000
_SHOWN = 3


def row_warnings(job: Job, plan: Plan) -> Iterator[str]:
    """Stop strings that are never found; and how many of the first rows would fail, and why."""
    options = resolve_options(job.storage_options)
    first = plan.shards[0]
    input = plan.read(Shard(first.index, first.spans), options)
    prompts = open_prompts(job, plan, options)
    yield from _stop_warnings(job, prompts.tokenizer)
    rows = min(_ROWS, first.rows)
    bad: list[str] = []
    for row in range(rows):
        fault = input.faults.get(row)
        if fault is None:
            try:
                values = input.values(row)
                prompts.make(values)
                prompts.completion(values)
                prompts.row_id(values)
            except RowError as error:
                fault = str(error)
        if fault is not None:
            name, number = input.place(row)
            bad.append(f"{name}, row {number:,}: {fault}")
    if bad:
        more = [f"… and {len(bad) - _SHOWN} more"] if len(bad) > _SHOWN else []
        yield (
            f"{len(bad)} of the first {rows:,} rows would fail (rows are counted from 0):\n  "
            + "\n  ".join([*bad[:_SHOWN], *more])
        )


def _stop_warnings(job: Job, tokenizer: Tokenizer | None) -> Iterator[str]:
    if tokenizer is None:
        return
    for stop, name in never_found(job.sampling.stop, tokenizer):
        yield (
            f"sampling.stop: {stop!r} never ends a completion, for {name} is a token without "
            f"text; give {name!r} alone to stop at that token"
        )
