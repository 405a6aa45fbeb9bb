"""Ids that several rows have, among the first rows of a job."""

from collections.abc import Iterator, Sequence
from itertools import chain

import pyarrow as pa

from rgpipeline.errors import RowError
from rgpipeline.io.options import resolve_options
from rgpipeline.io.shard_rows import InputRows, read_shard
from rgpipeline.plan import Plan
from rgpipeline.records import Shard, Span
from rgpipeline.spec import Job
from rgpipeline.wording import count, counted
from rgpipeline.worker.prompts import Prompts

ROWS = 500_000  # looked at: about 70 MB of memory, and some seconds for JSON Lines
_SHOWN, _BATCH = 3, 8192


def id_warnings(job: Job, plan: Plan, rows: int = ROWS) -> Iterator[str]:
    """What is to be known of the ids of the first `rows` rows; reads no other column.

    Default ids (`file#row`) are all different and are not looked at. Raises StoreError.
    """
    name = plan.columns.id
    if name is None:
        return
    input = _read(job, plan, name, rows)
    read = input.table.num_rows
    repeated, empty = _look(input, Prompts(plan.columns, job.sampling, None, requires_id=False))
    among = f"{'all ' if read == plan.rows else 'the first '}{counted(read, 'row')}"
    if repeated:
        yield (
            f"{count(len(repeated))} of {among} have an id that an earlier row has: "
            f"{_told(input, repeated)}; equal prompts get equal samples by equal ids, and their "
            f"answers can't be told apart"
        )
    if empty:
        yield f"{count(empty)} of {among} have an empty text as id"


def _read(job: Job, plan: Plan, name: str, rows: int) -> InputRows:
    options = resolve_options(job.storage_options)
    spans: list[Span] = []
    left = rows
    for index, file in enumerate(plan.files):
        if stop := min(left, file.rows):
            spans.append(Span(index, 0, stop))
            left -= stop
    partitions = [column for column in plan.partitions if column == name]
    schema = pa.schema([plan.schema.field(name)])
    shard, reader = Shard(0, tuple(spans)), plan.reader(options)
    return read_shard(plan.files, shard, reader, schema, partitions, options)


def _look(input: InputRows, prompts: Prompts) -> tuple[list[tuple[str, int, int]], int]:
    """((id, its first row, this row) of each row whose id is known by then, empty ids)."""
    first: dict[str, int] = {}
    repeated: list[tuple[str, int, int]] = []
    empty = 0
    batches = input.table.to_batches(max_chunksize=_BATCH)
    for row, values in enumerate(chain.from_iterable(b.to_pylist() for b in batches)):
        id = _id(prompts, values) if row not in input.faults else None
        if id is None:
            continue
        empty += id == ""
        if first.setdefault(id, row) != row:
            repeated.append((id, first[id], row))
    return repeated, empty


def _id(prompts: Prompts, values: dict[str, object]) -> str | None:
    try:
        return prompts.row_id(values)
    except RowError:
        return None


def _told(input: InputRows, repeated: Sequence[tuple[str, int, int]]) -> str:
    shown = [f"{id!r} ({_places(input, first, again)})" for id, first, again in repeated[:_SHOWN]]
    return ", ".join(shown) + (", …" if len(repeated) > _SHOWN else "")


def _places(input: InputRows, first: int, again: int) -> str:
    (one, row), (other, another) = input.place(first), input.place(again)
    if one == other:
        return f"{one}, rows {count(row)} and {count(another)}"
    return f"{one}, row {count(row)}; {other}, row {count(another)}"
