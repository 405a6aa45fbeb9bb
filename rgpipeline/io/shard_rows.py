"""A shard's input rows, from whichever files they lie in."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import pyarrow as pa

from rgpipeline.errors import InputError
from rgpipeline.io.files import current_version, explained
from rgpipeline.io.hive import with_partitions
from rgpipeline.io.options import StorageOptions
from rgpipeline.io.readers import Reader, Rows, joined, nulls, sound
from rgpipeline.io.retry import Retry
from rgpipeline.records import InputFile, Shard, Span


@dataclass(frozen=True, slots=True)
class InputRows:
    """The rows of one shard; `table` has the plan's columns, row i of the shard at i."""

    table: pa.Table
    faults: dict[int, str]  # rows that could not be read, and why; their columns are null
    _files: tuple[InputFile, ...]
    _spans: tuple[Span, ...]
    _starts: tuple[int, ...]  # of each span, in rows of the shard

    def place(self, row: int) -> tuple[str, int]:
        """(name of the file, number of the row in it) that a row of the shard comes from."""
        index = bisect_right(self._starts, row) - 1
        span = self._spans[index]
        return self._files[span.file].name, span.start + row - self._starts[index]

    def default_id(self, row: int) -> str:
        """`file#row`: the id of a row when the job maps no column to it."""
        name, number = self.place(row)
        return f"{name}#{number}"


def read_shard(
    files: Sequence[InputFile],
    shard: Shard,
    reader: Reader,
    schema: pa.Schema,
    partitions: Sequence[str] = (),
    options: StorageOptions | None = None,
    retry: Retry | None = None,
) -> InputRows:
    """The columns `schema` of a shard's rows; those in `partitions` come from folders' names.

    A file that has gone, changed or turned bad since the plan was made costs its own rows only:
    they come back with a fault. Raises StoreError when a store can't be reached for long.
    """
    retry = retry or Retry()
    tables: list[pa.Table] = []
    faults: dict[int, str] = {}
    starts = tuple(accumulate((span.rows for span in shard.spans), initial=0))
    for start, span in zip(starts, shard.spans, strict=False):
        rows = _read_span(reader, files[span.file], span, schema, options, retry)
        tables.append(with_partitions(rows.table, files[span.file].path, partitions))
        faults |= {start + row: fault for row, fault in rows.faults.items()}
    return InputRows(joined(tables, schema), faults, tuple(files), shard.spans, starts[:-1])


def _read_span(
    reader: Reader,
    file: InputFile,
    span: Span,
    schema: pa.Schema,
    options: StorageOptions | None,
    retry: Retry,
) -> Rows:
    def read() -> Rows:
        _require_unchanged(file, options)
        return sound(reader.read(file, span.start, span.stop, schema))

    try:
        return retry.call(f"reading {file.path}", read)
    except InputError as error:
        return Rows(nulls(span.rows, schema), dict.fromkeys(range(span.rows), str(error)))


def _require_unchanged(file: InputFile, options: StorageOptions | None) -> None:
    try:
        found = current_version(file.path, options)
    except Exception as error:
        raise explained(file.path, error) from error
    if found != (file.size, file.version):
        raise InputError(
            f"{file.path}: changed since the job began; put it back as it was, or start a new job"
        )
