"""Rows of Arrow tables as engine work, for `RowService`: no input files, no plan of shards."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rgpipeline.errors import InputError
from rgpipeline.io.arrow_types import is_any_list, value_type
from rgpipeline.io.readers import take_rows
from rgpipeline.io.used_values import exact_text, value_of
from rgpipeline.plan import Plan
from rgpipeline.plan.column_checks import (
    OPTIONAL_ROLES,
    missing_column,
    name_faults,
    names_rows,
)
from rgpipeline.plan.plan_record import identity, used_columns
from rgpipeline.plan.planner import kept_columns
from rgpipeline.read_texts import ReadText
from rgpipeline.records import OutputRow
from rgpipeline.spec import Columns, Job
from rgpipeline.tasks import added_columns, task_of
from rgpipeline.tasks.row_prompts import Prompts
from rgpipeline.tasks.task import RowLabel, RowWork, error_text
from rgpipeline.text.prompt_template import PromptTemplate
from rgpipeline.wording import encodable

_ID = "id"


def plan_without_files(job: Job) -> Plan:
    """What `open_prompts` needs to know of a job whose rows come in tables."""
    return Plan(identity(job), "parquet", (), (), pa.schema([]), (), job.input.columns)


@dataclass(frozen=True, slots=True)
class TableRows:
    """Makes work of a table's rows, and a table of the output rows.

    A row's id is the value of the mapped column, or of a column called `id`; without one it is a
    hash of the row's own used values. So its random bits never depend on other rows.
    """

    job: Job
    prompts: Prompts
    check_tokens: Callable[[NDArray[np.int32], ReadText | None], None]  # raises RowError

    def make(self, call: int, table: pa.Table) -> tuple[list[RowWork], list[OutputRow]]:
        """The work of all rows, and an output row with its error for each that has none.

        Raises InputError when the table lacks a column that the job names.
        """
        prompts = self._prompts(table.schema)
        names = used_columns(prompts.columns, self.job.input.template)
        task = task_of(self.job, _choices(self.job, table.schema))
        used = table.select([name for name in names if name in table.column_names])
        work: list[RowWork] = []
        refused: list[OutputRow] = []
        for row in range(table.num_rows):
            label = RowLabel(call, row, "", "")
            try:
                values = dict.fromkeys(names) | _values(used, row)
                label = replace(label, id=_hash(values))
                if (own := prompts.row_id(values)) is not None:
                    label = replace(label, id=encodable(own))
                found = task.work(label, values, prompts)
                self.check_tokens(found[0].request.tokens, found[0].request.start)
                work += found
            except MemoryError:  # not the row's fault
                raise
            except Exception as error:  # any other exception fails this row only
                refused.append(label.failed(error_text(error)))
        return work, refused

    def output(self, table: pa.Table, rows: Sequence[OutputRow]) -> pa.Table:
        """The kept columns of the rows' input, and those that the task adds."""
        kept_names = kept_columns(
            self.job, _with_found_id(self.job, table.schema), table.column_names
        )
        kept = take_rows(table.select(kept_names), [row.row for row in rows])
        ours = added_columns(self.job, _choices(self.job, table.schema)).table(rows)
        schema = pa.schema([*kept.schema, *ours.schema])
        return pa.table([*kept.columns, *ours.columns], schema=schema)

    def _prompts(self, schema: pa.Schema) -> Prompts:
        """What makes prompts of a table with these columns. Raises InputError."""
        check_columns(self.job, schema)
        requires_id = self.prompts.columns.id is not None
        columns = _with_found_id(self.job, schema)
        return replace(self.prompts, columns=columns, requires_id=requires_id)


def check_columns(job: Job, schema: pa.Schema) -> None:
    """Raises InputError if tables with these columns lack one that the job names, or have one
    that the task adds.
    """
    columns = job.input.columns.model_dump(exclude=OPTIONAL_ROLES)
    needed = [(f"input.columns.{role}", name) for role, name in columns.items() if name]
    if job.input.template:
        needed += [("input.template", name) for name in PromptTemplate(job.input.template).fields]
    faults = [f for where, name in needed for f in missing_column(where, name, schema.names)]
    kept = kept_columns(job, _with_found_id(job, schema), schema.names)
    if faults := faults + name_faults(job, kept, _choices(job, schema)):
        raise InputError("\n".join(faults))


def _choices(job: Job, schema: pa.Schema) -> bool:
    """Whether the column of completions to score holds lists of texts, see `Plan.choices`."""
    name = job.input.columns.completion
    return name in schema.names and is_any_list(value_type(schema.field(name).type))


def _with_found_id(job: Job, schema: pa.Schema) -> Columns:
    """The job's columns; where it maps none to `id`, the tables' column of that name."""
    columns = job.input.columns
    taken = columns.id is not None or _ID in columns.model_dump().values()
    if taken or _ID not in schema.names or not names_rows(schema.field(_ID)):
        return columns
    return columns.model_copy(update={"id": _ID})


def _values(table: pa.Table, row: int) -> dict[str, Any]:
    """A row's values, exact. Raises RowError naming a column that can't be read."""
    values = {
        field.name: value_of(field, column[row])
        for field, column in zip(table.schema, table.columns, strict=True)
    }
    # Ray Data holds lists of numbers as tensors.
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in values.items()
    }


def _hash(values: Mapping[str, Any]) -> str:
    """16 hex digits that name a row by its used values."""
    text = json.dumps([(name, exact_text(value)) for name, value in values.items()])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
