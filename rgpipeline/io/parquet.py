"""Parquet input: planning reads footers only, workers read ranges of row groups."""

from collections.abc import Collection, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from rgpipeline.errors import InputError
from rgpipeline.io.arrow_types import fitted
from rgpipeline.io.input_files import FoundFile, arrow_file, input_error, is_corruption
from rgpipeline.io.readers import Rows, Scan, joined, nulls, require_distinct
from rgpipeline.io.used_values import exact_name
from rgpipeline.records import InputFile
from rgpipeline.storage.filesystems import StorageOptions

_BATCH_ROWS = 1024  # decoded at once: bounds memory in row groups of millions
# A row group with at most so many bytes in the wanted columns is fetched at once, by few requests.
# Of a larger one each column is read as its rows are needed.
_AT_ONCE = 32 << 20
_AHEAD = 4 << 20  # bytes of a column
_EXACT = 2**53  # the whole numbers up to it are exact in float64


class _Stretch(NamedTuple):
    """Rows [start, stop) of one row group."""

    group: int
    start: int
    stop: int


class _Source(NamedTuple):
    """A row group of a file, and the columns that are read."""

    path: str
    group: int
    columns: tuple[str, ...]


@dataclass(slots=True)
class _Cursor:
    """A row group read from front to back: rows can only be skipped by decoding them."""

    source: _Source
    batches: Iterator[pa.RecordBatch]
    batch: pa.RecordBatch | None = None  # the latest
    first: int = 0  # its first row, in the group

    def take(self, start: int, stop: int) -> list[pa.RecordBatch]:
        """Rows [start, stop); `start` must not lie before the rows taken last."""
        taken: list[pa.RecordBatch] = []
        while True:
            rows = self.batch.num_rows if self.batch is not None else 0
            low, high = max(start - self.first, 0), min(stop - self.first, rows)
            if self.batch is not None and low < high:
                taken.append(self.batch.slice(low, high - low))
            if stop <= self.first + rows:
                return taken
            self.first += rows
            self.batch = next(self.batches)


class ParquetReader:
    """`Reader` of Parquet files. Nested, dictionary and large types come as they were written.

    Ranges of a row group that are read in their order decode it once: each continues where the
    one before ended.
    """

    def __init__(self, options: StorageOptions | None) -> None:
        self._options = options
        self._cursor: _Cursor | None = None

    def scan(self, file: FoundFile, limit: int | None = None) -> Scan:
        try:
            with self._open(file.path) as parquet:
                rows, schema = parquet.metadata.num_rows, parquet.schema_arrow
                require_distinct(file.path, schema.names)
                return Scan(rows if limit is None else min(rows, limit), schema)
        except Exception as error:
            raise input_error(file.path, error) from error

    def read(
        self, file: InputFile, start: int, stop: int, schema: pa.Schema, used: Sequence[str] = ()
    ) -> Rows:
        pieces: list[pa.Table] = []
        faults: dict[int, str] = {}
        done = 0
        try:
            with self._open(file.path) as parquet:
                found = _wanted(parquet.schema_arrow, schema.names, used)
                for stretch in _stretches(parquet.metadata, start, stop):
                    rows = stretch.stop - stretch.start
                    pieces.append(
                        self._read_stretch(parquet, file.path, stretch, found, done, faults)
                    )
                    done += rows
        except Exception as error:
            raise input_error(file.path, error) from error
        if done != stop - start:
            raise InputError(f"{file.path}: has no rows {start} to {stop}; it was changed")
        table = joined(pieces, found)
        kept = fitted(table, schema, faults)
        return Rows(kept, faults, _used(table, used))

    def has_small_integers(self, path: str, column: str) -> bool:
        """By the statistics in the file's footer."""
        with pq.ParquetFile(arrow_file(path, self._options)) as parquet:
            metadata, schema = parquet.metadata, parquet.schema
        leaves = [
            index
            for index in range(metadata.num_columns)
            if (schema.column(index).path + ".").startswith(column + ".")
            and schema.column(index).physical_type == "INT64"
        ]
        groups = map(metadata.row_group, range(metadata.num_row_groups))
        return all(_is_small(group.column(index)) for group in groups for index in leaves)

    def _read_stretch(
        self,
        parquet: pq.ParquetFile,
        path: str,
        stretch: _Stretch,
        schema: pa.Schema,
        first: int,
        faults: MutableMapping[int, str],
    ) -> pa.Table:
        """The columns `schema` of a stretch. If they are corrupt: nulls, and faults of its rows,
        counted from `first`.
        """
        rows = stretch.stop - stretch.start
        if not len(schema):
            return nulls(rows, schema)
        source = _Source(path, stretch.group, tuple(schema.names))
        cursor, self._cursor = self._cursor, None  # dropped if this fails
        try:
            if cursor is None or cursor.source != source or cursor.first > stretch.start:
                cursor = _Cursor(source, self._batches(source, parquet.metadata))
            table = pa.Table.from_batches(cursor.take(stretch.start, stretch.stop))
        except Exception as error:
            if not is_corruption(error):
                raise
            fault = str(input_error(path, error))
            faults.update(dict.fromkeys(range(first, first + rows), fault))
            return nulls(rows, schema)
        if stretch.stop < parquet.metadata.row_group(stretch.group).num_rows:
            self._cursor = cursor
        return table.select(schema.names)

    def _batches(self, source: _Source, metadata: pq.FileMetaData) -> Iterator[pa.RecordBatch]:
        at_once = _bytes_of(metadata.row_group(source.group), source.columns) <= _AT_ONCE
        parquet = self._open(source.path, metadata, at_once)
        groups, columns = [source.group], list(source.columns)
        batches: Iterator[pa.RecordBatch] = parquet.iter_batches(
            _BATCH_ROWS, row_groups=groups, columns=columns, use_threads=False
        )
        return batches

    def _open(
        self, path: str, metadata: pq.FileMetaData | None = None, at_once: bool = True
    ) -> pq.ParquetFile:
        file = arrow_file(path, self._options)
        remote = not isinstance(file, pa.NativeFile)
        return pq.ParquetFile(
            file,
            metadata=metadata,
            pre_buffer=at_once and remote,  # on a disk, fewer reads save nothing
            buffer_size=0 if at_once else _AHEAD,
            page_checksum_verification=True,
        )


def _is_small(chunk: pq.ColumnChunkMetaData) -> bool:
    statistics = chunk.statistics
    if statistics is None or not statistics.has_min_max:
        nulls = None if statistics is None else statistics.null_count
        return bool(chunk.num_values == 0 or nulls == chunk.num_values)
    return bool(statistics.min >= -_EXACT and statistics.max <= _EXACT)


def _wanted(schema: pa.Schema, kept: Sequence[str], used: Sequence[str]) -> pa.Schema:
    """The fields of the file that are read, without repetition."""
    fields = {field.name: field for field in schema}
    exact = (exact_name(name) if exact_name(name) in fields else name for name in used)
    names = dict.fromkeys([*kept, *exact])
    return pa.schema([fields[name] for name in names if name in fields])


def _used(table: pa.Table, used: Sequence[str]) -> pa.Table:
    indices = {name: index for index, name in enumerate(table.column_names)}
    found = {name: indices.get(exact_name(name), indices.get(name)) for name in used}
    given = {name: index for name, index in found.items() if index is not None}
    fields = [table.schema.field(index).with_name(name) for name, index in given.items()]
    return pa.table([table.column(i) for i in given.values()], schema=pa.schema(fields))


def _bytes_of(group: pq.RowGroupMetaData, columns: Collection[str]) -> int:
    """Compressed bytes of the named columns, with everything nested in them."""
    columns = set(columns)
    chunks = (group.column(index) for index in range(group.num_columns))
    return sum(
        chunk.total_compressed_size
        for chunk in chunks
        if chunk.path_in_schema in columns or chunk.path_in_schema.partition(".")[0] in columns
    )


def _stretches(metadata: pq.FileMetaData, start: int, stop: int) -> Iterator[_Stretch]:
    first = 0
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        low, high = max(start - first, 0), min(stop - first, rows)
        if low < high:
            yield _Stretch(group, low, high)
        first += rows
