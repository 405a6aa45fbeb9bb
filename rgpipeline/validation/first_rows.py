"""Reads the first rows of a job, of chosen columns only."""

from collections.abc import Sequence

import pyarrow as pa

from rgpipeline.io.shard_rows import InputRows, read_shard
from rgpipeline.plan import Plan
from rgpipeline.records import InputFile, Shard, Span
from rgpipeline.spec import Job
from rgpipeline.storage.filesystems import resolve_options


def first_rows(
    job: Job, plan: Plan, names: Sequence[str], rows: int, files: int | None = None
) -> tuple[InputRows, int]:
    """The columns `names` of the first `rows` rows, and how many these are.

    `files`: look no further than the first ones. Raises StoreError.
    """
    spans = _first(plan.files[:files], rows)
    options = resolve_options(job.storage_options)
    reader, nothing_kept = plan.reader(options), pa.schema([])
    shard = Shard(0, spans)
    input = read_shard(plan.files, shard, reader, nothing_kept, names, plan.partitions, options)
    return input, sum(span.rows for span in spans)


def _first(files: Sequence[InputFile], rows: int) -> tuple[Span, ...]:
    """The first rows of these files, file by file."""
    spans: list[Span] = []
    for index, file in enumerate(files):
        if stop := min(rows, file.rows):
            spans.append(Span(index, 0, stop))
            rows -= stop
    return tuple(spans)
