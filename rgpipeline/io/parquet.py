"""Parquet input: row groups by range, footers only for planning."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from rgpipeline.errors import InputError
from rgpipeline.io.files import FoundFile, explained, is_corruption, open_file
from rgpipeline.io.options import StorageOptions
from rgpipeline.io.readers import Rows, Scan, fitted, joined, nulls
from rgpipeline.records import InputFile

_BATCH_ROWS = 1024  # decoded at once: bounds memory in row groups of millions


class _Stretch(NamedTuple):
    """Rows [start, stop) of one row group."""

    group: int
    start: int
    stop: int


class ParquetReader:
    """`Reader` of Parquet files. Nested, dictionary and large types come as they were written."""

    def __init__(self, options: StorageOptions | None) -> None:
        self._options = options

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
                        pieces.append(_read_stretch(parquet, stretch, schema))
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

    def _open(self, path: str) -> pq.ParquetFile:
        # Arrow asks for the ranges it needs, merged; reading ahead would only fetch others.
        source = open_file(path, self._options, read_ahead=False)
        return pq.ParquetFile(source, pre_buffer=True, page_checksum_verification=True)


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


def _read_stretch(parquet: pq.ParquetFile, stretch: _Stretch, schema: pa.Schema) -> pa.Table:
    present = [name for name in schema.names if name in parquet.schema_arrow.names]
    if not present:
        return nulls(stretch.stop - stretch.start, schema)
    batches = parquet.iter_batches(
        _BATCH_ROWS, row_groups=[stretch.group], columns=present, use_threads=False
    )
    kept = list(_cut(batches, stretch.start, stretch.stop))
    return fitted(pa.Table.from_batches(kept), schema)


def _cut(batches: Iterator[pa.RecordBatch], start: int, stop: int) -> Iterator[pa.RecordBatch]:
    """Rows [start, stop) of consecutive batches; later ones are never decoded."""
    first = 0
    for batch in batches:
        if start < first + batch.num_rows:
            yield batch.slice(max(start - first, 0), stop - max(start, first))
        first += batch.num_rows
        if first >= stop:
            return
