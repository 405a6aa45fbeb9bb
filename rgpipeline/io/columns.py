"""The columns we add to the kept ones: names, types and values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from rgpipeline.records import OutputRow


class Column(NamedTuple):
    """A column of the output, and how its value comes of a row."""

    name: str
    type: pa.DataType
    value: Callable[[OutputRow], Any]


# What every task's output begins with, and two columns that every task has.
SEGMENT_COLUMNS = (
    Column("id", pa.string(), lambda row: row.id),
    Column("sample", pa.int32(), lambda row: row.sample),
    Column("segment", pa.int32(), lambda row: row.segment),
)
PROMPT_TOKENS = Column("prompt_tokens", pa.int64(), lambda row: row.prompt_tokens)
ERROR = Column("error", pa.string(), lambda row: row.error)


@dataclass(frozen=True, slots=True)
class AddedColumns:
    """The columns that a job adds to its input's, in their order; `prefix` precedes their names."""

    columns: tuple[Column, ...]
    prefix: str = ""

    @property
    def names(self) -> list[str]:
        return [self.prefix + column.name for column in self.columns]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([(self.prefix + column.name, column.type) for column in self.columns])

    def table(self, rows: Sequence[OutputRow]) -> pa.Table:
        """Our columns of `rows`, one row each."""
        arrays = [pa.array(map(column.value, rows), column.type) for column in self.columns]
        return pa.table(arrays, schema=self.schema)
