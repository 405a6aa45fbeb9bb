"""Parquet input: row groups by range, footers only for planning."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from rgpipeline.errors import InputError
from rgpipeline.io.files import FoundFile, arrow_file, explained, is_corruption
from rgpipeline.io.options import StorageOptions
from rgpipeline.io.readers import Rows, Scan, fitted, joined, nulls
from rgpipeline.records import InputFile

_BATCH_ROWS = 1024  # decoded at once: bounds memory in row groups of millions
# Bytes of a row group, in the columns wanted, that are fetched at once, by few requests; of a
# larger one each column is read on as its rows are.
_AT_ONCE = 32 << 20
_AHEAD = 4 << 20  # bytes of a column


class _Stretch(NamedTuple):
    """Rows [start, stop) of one row group."""

    group: int
    start: int
    stop: int


class _Place(NamedTuple):
    """A row group of a file, and which of its columns are read."""

    path: str
    group: int
    columns: tuple[str, ...]


@dataclass(slots=True)
class _Cursor:
    """A row group that is read from front to back, for rows can only be skipped by decoding."""

    place: _Place
    batches: Iterator[pa.RecordBatch]
    batch: pa.RecordBatch | None = None  # the latest
    first: int = 0  # its first row, in the group

    def take(self, start: int, stop: int) -> list[pa.RecordBatch]:
        """Rows [start, stop), none of them before those that were taken last."""
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

    Who reads ranges of a row group in their order decodes it once: the next goes on where the
    one before ended.
    """

    def __init__(self, options: StorageOptions | None) -> None:
        self._options = options
        self._cursor: _Cursor | None = None

    def scan(self, file: FoundFile, limit: int | None = None) -> Scan:
        try:
            with self._open(file.path) as parquet:
                rows, schema = parquet.metadata.num_rows, parquet.schema_arrow
                _require_distinct(file.path, schema.names)
                return Scan(rows if limit is None else min(rows, limit), schema)
        except Exception as error:
            raise explained(file.path, error) from error

    def read(self, file: InputFile, start: int, stop: int, schema: pa.Schema) -> Rows:
        pieces: list[pa.Table] = []
        faults: dict[int, str] = {}
        try:
            with self._open(file.path) as parquet:
                done = 0
                for stretch in _stretches(parquet.metadata, start, stop):
                    rows = stretch.stop - stretch.start
                    try:
                        pieces.append(self._read_stretch(file.path, parquet, stretch, schema))
                    except Exception as error:
                        if not is_corruption(error):
                            raise
                        what = explained(file.path, error)
                        faults |= {row: str(what) for row in range(done, done + rows)}
                        pieces.append(nulls(rows, schema))
                    done += rows
        except Exception as error:
            raise explained(file.path, error) from error
        if done != stop - start:
            raise InputError(f"{file.path}: has no rows {start} to {stop}; it was changed")
        return Rows(joined(pieces, schema), faults)

    def _read_stretch(
        self, path: str, parquet: pq.ParquetFile, stretch: _Stretch, schema: pa.Schema
    ) -> pa.Table:
        present = [name for name in schema.names if name in parquet.schema_arrow.names]
        if not present:
            return nulls(stretch.stop - stretch.start, schema)
        place = _Place(path, stretch.group, tuple(present))
        cursor, self._cursor = self._cursor, None  # lost, should this fail
        if cursor is None or cursor.place != place or cursor.first > stretch.start:
            cursor = _Cursor(place, self._batches(place, parquet.metadata))
        taken = cursor.take(stretch.start, stretch.stop)
        if stretch.stop < parquet.metadata.row_group(stretch.group).num_rows:
            self._cursor = cursor
        return fitted(pa.Table.from_batches(taken), schema)

    def _batches(self, place: _Place, metadata: pq.FileMetaData) -> Iterator[pa.RecordBatch]:
        at_once = _bytes_of(metadata.row_group(place.group), place.columns) <= _AT_ONCE
        parquet = self._open(place.path, metadata, at_once)
        groups, columns = [place.group], list(place.columns)
        batches: Iterator[pa.RecordBatch] = parquet.iter_batches(
            _BATCH_ROWS, row_groups=groups, columns=columns, use_threads=False
        )
        return batches

    def _open(
        self, path: str, metadata: pq.FileMetaData | None = None, at_once: bool = True
    ) -> pq.ParquetFile:
        source = arrow_file(path, self._options)
        remote = not isinstance(source, pa.NativeFile)
        return pq.ParquetFile(
            source,
            metadata=metadata,
            pre_buffer=at_once and remote,  # on a disk, one read costs nothing to save
            buffer_size=0 if at_once else _AHEAD,
            page_checksum_verification=True,
        )


def _bytes_of(group: pq.RowGroupMetaData, columns: Collection[str]) -> int:
    """Of the named columns, with everything nested in them, compressed."""
    chunks = (group.column(index) for index in range(group.num_columns))
    return sum(
        chunk.total_compressed_size
        for chunk in chunks
        if chunk.path_in_schema in columns or chunk.path_in_schema.partition(".")[0] in columns
    )


def _require_distinct(path: str, names: Sequence[str]) -> None:
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"{path}: has two columns called {twice!r}; rename one")


def _stretches(metadata: pq.FileMetaData, start: int, stop: int) -> Iterator[_Stretch]:
    first = 0
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        low, high = max(start - first, 0), min(stop - first, rows)
        if low < high:
            yield _Stretch(group, low, high)
        first += rows
