"""A job's output folder, made without an engine: rows as a test wants them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rgpipeline.io.log import ShardLog
from rgpipeline.io.parts import build_part
from rgpipeline.io.readers import take_rows
from rgpipeline.jobfile import parse_job
from rgpipeline.output import write_success
from rgpipeline.plan import open_or_create
from rgpipeline.records import OutputRow
from rgpipeline.spec import Job
from rgpipeline.storage.store import open_store
from rgpipeline.tasks import added_columns

Answer = Callable[[int, Mapping[str, Any]], Sequence[OutputRow]]


def job_over(folder: Path, rows: Sequence[Mapping[str, Any]], **sections: Mapping[str, Any]) -> Job:
    """A job over a Parquet file of `rows` in `folder`, its output beside it."""
    path = folder / "input.parquet"
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    mapping: dict[str, Any] = {
        "model": {"weights": "demo"},
        "input": {"path": str(path)},
        "output": {"path": str(folder / "out")},
    }
    for name, section in sections.items():
        value = mapping.get(name)
        mapping[name] = {**value, **section} if isinstance(value, dict) else section
    return parse_job(mapping, "job")


def publish(job: Job, answer: Answer, *, success: bool = True) -> str:
    """Publishes what `answer(row number, input row)` says, a part a shard; returns the url."""
    store = open_store(job.output.path, job.storage_options)
    plan = open_or_create(job, store)
    columns = added_columns(job, plan.choices)
    number = 0
    for shard in plan.shards:
        input = plan.read(shard)
        table = input.table
        log, rows = ShardLog(store, shard.index), []
        kept_rows = table.to_pylist() or [{}] * shard.rows
        for index, values in enumerate(kept_rows):
            row_values = {**values, **input.values(index)}
            rows += [replace(row, row=index) for row in answer(number, row_values)]
            number += 1
        kept = table.select(list(plan.kept))

        def build(
            given: Sequence[OutputRow],
            part: int,
            shard: int = shard.index,
            kept: pa.Table = kept,
        ) -> bytes:
            label = plan.label(job, shard, part, "test")
            return build_part(take_rows(kept, [row.row for row in given]), given, columns, label)

        if rows:
            log.append(rows, build)
    if success:
        write_success(store)
    return job.output.path


def done(id: str, text: str = "yes", tokens: int = 3, **fields: Any) -> OutputRow:
    """A finished completion; with `finish_reason=None`, a segment that others follow."""
    values = {"finish_reason": "stop", "prompt_tokens": 2, **fields}
    values |= {"final": values["finish_reason"] is not None}
    return OutputRow(0, id, completion=text, completion_tokens=tokens, **values)


def failed(id: str, error: str = "'prompt' is null") -> OutputRow:
    """A row with an error."""
    return OutputRow(0, id, error=error, finish_reason="error")
