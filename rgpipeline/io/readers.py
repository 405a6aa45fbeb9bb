"""What a reader of an input format does, and the rows it returns."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import pairwise
from typing import Protocol, cast

import pyarrow as pa

from rgpipeline.errors import InputError
from rgpipeline.input_formats import FORMATS
from rgpipeline.io.input_files import FoundFile
from rgpipeline.io.json_types import ColumnTypes
from rgpipeline.records import InputFile
from rgpipeline.storage.filesystems import StorageOptions


@dataclass(frozen=True, slots=True)
class Scan:
    """What planning needs to know of one file."""

    rows: int
    schema: pa.Schema
    marks: tuple[int, ...] = ()  # where reading may begin, see InputFile
    types: ColumnTypes | None = None  # of JSON values, whose types depend on those of all files


@dataclass(frozen=True, slots=True)
class Rows:
    """A range of rows, and the faults of some of them, by index in the table.

    A row with a fault has nulls where it could not be read. `used` has the columns that make
    prompts, ids and sampling, with exact values; see `used_values`.
    """

    table: pa.Table
    faults: Mapping[int, str] = field(default_factory=dict)
    used: pa.Table | None = None


class Reader(Protocol):
    """Reads the files of one format."""

    def scan(self, file: FoundFile, limit: int | None = None) -> Scan:
        """Counts a file's rows (up to `limit`) and finds its columns.

        Raises InputError naming the file when it is empty, corrupt, truncated or of another
        format; a transient error is raised as the store's client raised it.
        """

    def read(
        self, file: InputFile, start: int, stop: int, schema: pa.Schema, used: Sequence[str] = ()
    ) -> Rows:
        """Rows [start, stop) with exactly the columns and types of `schema`, and those in `used`
        with the types that they have in the file.

        Columns that the file lacks are null, or missing in `used`. Rows that are corrupt, or have
        values that don't fit their type, get faults. Raises InputError when nothing of the file can
        be read. Reading ranges in their order, from one thread, is fastest.
        """

    def has_small_integers(self, path: str, column: str) -> bool:
        """Whether all 64-bit integers of a column are known to lie within ±2^53, so that float64
        holds them exactly. Reads no rows. Only asked where a `Scan` has no `types`.
        """


def reader_for(format: str, options: StorageOptions | None) -> Reader:
    """A new reader of one of `FORMATS`."""
    module, _, name = FORMATS[format].reader.partition(":")
    return cast("Reader", getattr(import_module(module), name)(options))


def validated(rows: Rows) -> Rows:
    """`rows`, with nulls and a fault in each row that has a value invalid for its type, such as
    text that isn't UTF-8.
    """
    tables = [rows.table] if rows.used is None else [rows.table, rows.used]
    bad: dict[int, str] = {}
    for table in tables:
        for row in _invalid_rows(table, 0, table.num_rows):
            bad.setdefault(row, _fault(table.slice(row, 1)))
    if not bad:
        return rows
    table, *used = (_without(table, sorted(bad)) for table in tables)
    return Rows(table, {**bad, **rows.faults}, used[0] if used else None)


def require_distinct(path: str, names: Sequence[str]) -> None:
    """Raises InputError if two columns of a file have one name."""
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"{path}: has two columns called {twice!r}; rename one")


def nulls(rows: int, schema: pa.Schema) -> pa.Table:
    return pa.table([pa.nulls(rows, column.type) for column in schema], schema=schema)


def joined(pieces: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    return pa.concat_tables(pieces) if pieces else schema.empty_table()


def _without(table: pa.Table, rows: Sequence[int]) -> pa.Table:
    if not table.num_columns:
        return table
    pieces: list[pa.Table] = []
    for before, after in pairwise([-1, *rows, table.num_rows]):
        pieces.append(table.slice(before + 1, after - before - 1))
        if after < table.num_rows:
            pieces.append(nulls(1, table.schema))
    return pa.concat_tables(pieces)


def _invalid_rows(table: pa.Table, start: int, stop: int) -> Iterator[int]:
    """Rows of [start, stop) with invalid values, found by halving."""
    if start == stop or _is_valid(table.slice(start, stop - start)):
        return
    if stop - start == 1:
        yield start
        return
    middle = (start + stop) // 2
    yield from _invalid_rows(table, start, middle)
    yield from _invalid_rows(table, middle, stop)


def _is_valid(table: pa.Table) -> bool:
    try:
        table.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _fault(row: pa.Table) -> str:
    names = [name for name in row.column_names if not _is_valid(row.select([name]))]
    return f"{', '.join(map(repr, names))}: not valid; text must be UTF-8"


def take_rows(table: pa.Table, rows: Sequence[int | None]) -> pa.Table:
    """Some rows of a table, in this order; nulls for None."""
    try:
        return table.take(pa.array(rows, pa.int64()))
    except pa.ArrowNotImplementedError:  # views of text and of lists have no `take`
        none = nulls(1, table.schema)
        pieces = [none if row is None else table.slice(row, 1) for row in rows]
        return pa.concat_tables(pieces) if pieces else table.slice(0, 0)
