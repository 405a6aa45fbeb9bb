"""Reads the first rows of a job, of some columns only."""

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from rgpipeline.io.shard_rows import InputRows, read_shard
from rgpipeline.plan import Plan
from rgpipeline.records import InputFile, Shard, Span
from rgpipeline.spec import Job
from rgpipeline.storage.filesystems import resolve_options
from rgpipeline.wording import counted

_ROWS, _BYTES, _FILES = 1000, 64 << 20, 20  # whose prompts are looked at, at most


class FirstRows(NamedTuple):
    """Rows of a job's first files."""

    input: InputRows
    rows: int  # so many
    name: str  # "all 4 rows", "the first 1,000 rows"


def first_prompts(job: Job, plan: Plan) -> FirstRows:
    """The used columns of the first rows: a thousand, of at most 20 files; fewer if they are large.

    Raises StoreError.
    """
    mean_bytes = sum(file.size for file in plan.files) / plan.rows
    rows = max(1, min(_ROWS, int(_BYTES / max(mean_bytes, 1))))
    return first_rows(job, plan, plan.used, rows, _FILES)


def first_rows(
    job: Job, plan: Plan, names: Sequence[str], rows: int, files: int | None = None
) -> FirstRows:
    """The columns `names` of the first `rows` rows.

    `files`: look no further than the first ones. Raises StoreError.
    """
    spans = _first(plan.files[:files], rows)
    options = resolve_options(job.storage_options)
    reader, nothing_kept = plan.reader(options), pa.schema([])
    shard = Shard(0, spans)
    input = read_shard(plan.files, shard, reader, nothing_kept, names, plan.partitions, options)
    read = sum(span.rows for span in spans)
    which = "all" if read == plan.rows else "the first"
    return FirstRows(input, read, f"{which} {counted(read, 'row')}")


def _first(files: Sequence[InputFile], rows: int) -> tuple[Span, ...]:
    """The first rows of these files, file by file."""
    spans: list[Span] = []
    for index, file in enumerate(files):
        if stop := min(rows, file.rows):
            spans.append(Span(index, 0, stop))
            rows -= stop
    return tuple(spans)
