"""The input rows of a shard, read from one or several files."""

import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from rgpipeline.errors import InputError
from rgpipeline.io.input_files import current_version, input_error
from rgpipeline.io.readers import Reader, Rows, joined, nulls, validated
from rgpipeline.io.used_values import value_of
from rgpipeline.records import InputFile, Shard, Span
from rgpipeline.storage.filesystems import StorageOptions
from rgpipeline.storage.retries import Retry
from rgpipeline.wording import encodable


@dataclass(frozen=True, slots=True)
class InputRows:
    """The rows of one shard; `table` has the columns to keep, row i of the shard at i."""

    table: pa.Table
    faults: dict[int, str]  # rows that could not be read, and why; their columns are null
    _files: tuple[InputFile, ...]
    _spans: tuple[Span, ...]
    _starts: tuple[int, ...]  # of each span, in rows of the shard
    _used: tuple[pa.Table | None, ...]  # of each span
    _names: tuple[str, ...]  # of the columns that `values` returns

    def values(self, row: int) -> dict[str, Any]:
        """The values that make prompt, id and sampling of a row, by column, exact.

        None if the file has no such column. Raises RowError naming a column that can't be read.
        """
        index = bisect_right(self._starts, row) - 1
        used, offset = self._used[index], row - self._starts[index]
        values: dict[str, Any] = dict.fromkeys(self._names)
        if used is not None:
            for field, column in zip(used.schema, used.columns, strict=True):
                values[field.name] = value_of(field, column[offset])
        return values

    def longer_than(self, nbytes: int, rows: Sequence[int]) -> set[int]:
        """Those of the rows whose used values take more than about `nbytes` bytes."""
        if sum(used.nbytes for used in self._used if used is not None) <= nbytes:
            return set()
        return {row for row in rows if self._nbytes(row) > nbytes}

    def _nbytes(self, row: int) -> int:
        index = bisect_right(self._starts, row) - 1
        used, offset = self._used[index], row - self._starts[index]
        columns = [] if used is None else used.columns
        # A slice of a dictionary column counts the whole dictionary.
        return sum(c.slice(offset, 1).nbytes for c in columns if not pa.types.is_dictionary(c.type))

    def origin(self, row: int) -> tuple[str, int]:
        """The file that a row of the shard comes from: its name, and the row's number in it."""
        index = bisect_right(self._starts, row) - 1
        span = self._spans[index]
        return self._files[span.file].name, span.start + row - self._starts[index]

    def default_id(self, row: int) -> str:
        """`file#row`: the id of a row when the job maps no column to it."""
        name, number = self.origin(row)
        return f"{name}#{number}"


def read_shard(
    files: Sequence[InputFile],
    shard: Shard,
    reader: Reader,
    schema: pa.Schema,
    used: Sequence[str] = (),
    partitions: Sequence[str] = (),
    options: StorageOptions | None = None,
    retry: Retry | None = None,
) -> InputRows:
    """The rows of a shard: the columns of `schema`, and the columns `used` with exact values.

    Columns in `partitions` come from folders' names. If a file was removed, changed or damaged
    since planning, only its own rows get a fault. Raises StoreError when a store fails for as long
    as it is tried again.
    """
    retry = retry or Retry()
    tables: list[pa.Table] = []
    used_tables: list[pa.Table | None] = []
    faults: dict[int, str] = {}
    kept_partitions = {*partitions} & {*schema.names}
    used_partitions = {*partitions} & {*used}
    starts = tuple(accumulate((span.rows for span in shard.spans), initial=0))
    for start, span in zip(starts, shard.spans, strict=False):
        path = files[span.file].partition_path
        rows = _read_span(reader, files[span.file], span, schema, used, options, retry)
        tables.append(_with_partitions(rows.table, path, kept_partitions, span.rows))
        exact = rows.used
        if exact is not None:
            exact = _with_partitions(exact, path, used_partitions, span.rows)
        used_tables.append(exact)
        faults |= {start + row: fault for row, fault in rows.faults.items()}
    table = joined(tables, schema)
    return InputRows(
        table, faults, tuple(files), shard.spans, starts[:-1], tuple(used_tables), tuple(used)
    )


def _with_partitions(table: pa.Table, path: str, names: Collection[str], rows: int) -> pa.Table:
    """`table`, of `rows` rows, with the path's value in each partition column of `names`.

    A column that the table has keeps its type; another is added as text.
    """
    columns = dict(
        zip(table.column_names, zip(table.schema, table.columns, strict=True), strict=True)
    )
    found = {name: value for name, value in partition_values(path).items() if name in names}
    for name, value in found.items():
        field = columns[name][0] if name in columns else pa.field(name, pa.string())
        constant = pa.scalar(value, pa.string()).cast(field.type)
        columns[name] = field, pa.repeat(constant, rows)
    if not found:
        return table
    schema = pa.schema([field for field, _ in columns.values()], table.schema.metadata)
    return pa.table([column for _, column in columns.values()], schema=schema)


def _read_span(
    reader: Reader,
    file: InputFile,
    span: Span,
    schema: pa.Schema,
    used: Sequence[str],
    options: StorageOptions | None,
    retry: Retry,
) -> Rows:
    def read() -> Rows:
        _require_unchanged(file, options)
        return validated(reader.read(file, span.start, span.stop, schema, used))

    try:
        return retry.call(f"reading {file.path}", read)
    except InputError as error:
        return Rows(nulls(span.rows, schema), dict.fromkeys(range(span.rows), str(error)))


def _require_unchanged(file: InputFile, options: StorageOptions | None) -> None:
    try:
        found = current_version(file.path, options)
    except Exception as error:
        raise input_error(file.path, error) from error
    if found != (file.size, file.version):
        raise InputError(
            f"{file.path}: changed since the job began; put it back as it was, or start a new job"
        )


_FOLDER = re.compile(r"([^=/]+)=([^/]*)")
_NULL = "__HIVE_DEFAULT_PARTITION__"


def partition_values(path: str) -> dict[str, str | None]:
    """The Hive partition columns in a file's path, outermost first, as text.

    Hive's own null is None. pyarrow's `HivePartitioning` won't do: it finds names only by opening
    the files, reads `01234` as a number, and takes no names that aren't UTF-8.
    """
    matches = (_FOLDER.fullmatch(folder) for folder in path.split("/")[:-1])
    return {
        encodable(unquote(match[1])): None if match[2] == _NULL else encodable(unquote(match[2]))
        for match in matches
        if match
    }


def partition_fields(paths: Iterable[str]) -> list[pa.Field]:
    """The partition columns of several files: int64 if every value is spelled as an int64 is.

    With `01234`, `+5` or `1_000` a column stays text, since an integer would be spelled otherwise.
    """
    seen: dict[str, set[str | None]] = {}
    for path in paths:
        for name, value in partition_values(path).items():
            seen.setdefault(name, set()).add(value)
    return [pa.field(name, _type_of(values)) for name, values in seen.items()]


def _type_of(values: Iterable[str | None]) -> pa.DataType:
    whole = all(value is None or _is_whole(value) for value in values)
    return pa.int64() if whole and any(values) else pa.string()


def _is_whole(value: str) -> bool:
    """Whether an int64 is spelled so."""
    if not re.fullmatch(r"-?[0-9]{1,19}", value):
        return False
    return str(int(value)) == value and -(2**63) <= int(value) < 2**63
