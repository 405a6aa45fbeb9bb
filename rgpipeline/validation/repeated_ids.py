"""Warns of ids that several of the first rows share.

Imports no jax: the driver looks at ids, too.
"""

from collections.abc import Iterator, Sequence

from rgpipeline.errors import RowError
from rgpipeline.io.shard_rows import InputRows
from rgpipeline.plan import Plan
from rgpipeline.spec import Job
from rgpipeline.tasks.row_prompts import Prompts
from rgpipeline.validation.first_rows import first_rows
from rgpipeline.wording import count

ROWS = 200_000  # read: takes about 40 MB of memory and two seconds
_SHOWN = 3
Repeated = tuple[str, int, int]  # an id, the first row with it, this row


def id_warnings(job: Job, plan: Plan, rows: int = ROWS) -> Iterator[str]:
    """Warnings about the ids of the first `rows` rows; reads only their column.

    Default ids (`file#row`) all differ and are not read. Raises StoreError.
    """
    if plan.columns.id is None:
        return
    input, read, among = first_rows(job, plan, (plan.columns.id,), rows)
    prompts = Prompts(plan.columns, job.sampling, None, requires_id=False)
    repeated, empty = _repeated_ids(input, prompts, read)
    if repeated:
        yield (
            f"{count(len(repeated))} of {among} have an id that an earlier row has: "
            f"{_examples(input, repeated)}; equal prompts get equal samples by equal ids, and "
            f"their answers can't be told apart"
        )
    if empty:
        yield f"{count(empty)} of {among} have an empty text as id"


def _repeated_ids(input: InputRows, prompts: Prompts, rows: int) -> tuple[list[Repeated], int]:
    """Every repetition of an id, and the number of empty ids."""
    first: dict[str, int] = {}
    repeated: list[Repeated] = []
    empty = 0
    for row in range(rows):
        id = _id(input, prompts, row)
        if id is None:
            continue
        empty += id == ""
        if first.setdefault(id, row) != row:
            repeated.append((id, first[id], row))
    return repeated, empty


def _id(input: InputRows, prompts: Prompts, row: int) -> str | None:
    if row in input.faults:
        return None
    try:
        return prompts.row_id(input.values(row))
    except RowError:
        return None


def _examples(input: InputRows, repeated: Sequence[Repeated]) -> str:
    shown = [f"{id!r} ({_places(input, first, again)})" for id, first, again in repeated[:_SHOWN]]
    return ", ".join(shown) + (", …" if len(repeated) > _SHOWN else "")


def _places(input: InputRows, first: int, again: int) -> str:
    (one, row), (other, another) = input.origin(first), input.origin(again)
    if one == other:
        return f"{one}, rows {count(row)} and {count(another)}"
    return f"{one}, row {count(row)}; {other}, row {count(another)}"
