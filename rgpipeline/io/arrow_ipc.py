"""Arrow IPC input: the file format, which is Feather of version 2, too, and the stream format."""

from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pyarrow as pa

from rgpipeline.errors import InputError
from rgpipeline.io.arrow_batches import BatchSource, RowRange, open_batches
from rgpipeline.io.arrow_types import fitted
from rgpipeline.io.input_files import FoundFile, input_error, is_corruption
from rgpipeline.io.readers import Rows, Scan, joined, nulls, require_distinct, validated
from rgpipeline.records import InputFile
from rgpipeline.storage.filesystems import StorageOptions


class ArrowReader:
    """`Reader` of .arrow, .arrows, .ipc and .feather; the first bytes tell which format it is.

    A plan keeps where each batch begins, so that a range is read from its own batches. Of a stream
    with dictionaries nothing can be skipped: its ranges should be read in their order. One batch is
    kept in memory.
    """

    def __init__(self, options: StorageOptions | None) -> None:
        self._options = options
        self._open: _OpenFile | None = None  # that was read last

    def scan(self, file: FoundFile, limit: int | None = None) -> Scan:
        marks: list[int] = []
        rows = 0
        try:
            source = open_batches(file.path, self._options)
            require_distinct(file.path, source.schema.names)
            for batch in source.batches():
                if limit is not None and rows >= limit:
                    break
                marks += [batch.start, batch.where]
                rows = batch.stop
        except Exception as error:
            raise input_error(file.path, error) from error
        return Scan(rows if limit is None else min(rows, limit), source.schema, tuple(marks))

    def read(
        self, file: InputFile, start: int, stop: int, schema: pa.Schema, used: Sequence[str] = ()
    ) -> Rows:
        opened, self._open = self._open, None  # dropped if this fails
        faults: dict[int, str] = {}
        try:
            if opened is None or opened.path != file.path:
                opened = _OpenFile(file.path, open_batches(file.path, self._options))
            wanted = {*schema.names, *used}
            found = pa.schema([field for field in opened.source.schema if field.name in wanted])
            pieces = list(opened.rows(file, start, stop, found, faults)) if len(found) else []
        except Exception as error:
            raise input_error(file.path, error) from error
        table = joined(pieces, found)
        if len(found) and table.num_rows != stop - start:
            raise InputError(f"{file.path}: has no rows {start} to {stop}; it was changed")
        self._open = opened
        rows = validated(Rows(table, faults))  # a cast of values that aren't valid may crash
        faults = dict(rows.faults)
        present = [name for name in used if name in found.names]
        return Rows(fitted(rows.table, schema, faults), faults, rows.table.select(present))

    def has_small_integers(self, path: str, column: str) -> bool:
        return False  # Arrow has no statistics


@dataclass(slots=True)
class _OpenFile:
    """A file, and the batch that was read last."""

    path: str
    source: BatchSource
    where: int | None = None  # of `batch`
    batch: pa.RecordBatch | None = None

    def rows(
        self,
        file: InputFile,
        start: int,
        stop: int,
        schema: pa.Schema,
        faults: MutableMapping[int, str],
    ) -> Iterator[pa.Table]:
        """Rows [start, stop), in pieces. Those of a damaged batch are null, and have faults."""
        for one in _marked(file) or list(self.source.batches()):
            low, high = max(start, one.start), min(stop, one.stop)
            if low >= high:
                continue
            try:
                batch = self._read(one.where, schema.names)
            except Exception as error:
                if not is_corruption(error):
                    raise
                fault = str(input_error(file.path, error))
                faults.update(dict.fromkeys(range(low - start, high - start), fault))
                yield nulls(high - low, schema)
                continue
            yield pa.Table.from_batches([batch.slice(low - one.start, high - low)])

    def _read(self, where: int, columns: Sequence[str]) -> pa.RecordBatch:
        batch, self.batch = self.batch, None
        if batch is None or self.where != where or batch.schema.names != columns:
            batch = self.source.read(where, columns)
        self.where, self.batch = where, batch
        return batch


def _marked(file: InputFile) -> list[RowRange]:
    """The batches of a file by its plan; none if it was changed."""
    starts, wheres = file.marks[::2], file.marks[1::2]
    ranges = pairwise([*starts, file.rows])
    return [RowRange(*range, where) for range, where in zip(ranges, wheres, strict=True)]
