"""The record batches of Arrow IPC files and streams, by their places."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import pyarrow as pa
import pyarrow.ipc as ipc

from rgpipeline.errors import InputError
from rgpipeline.io.input_files import arrow_file
from rgpipeline.storage.filesystems import StorageOptions

_FILE, _FEATHER_1 = b"ARROW1", b"FEA1"


class RowRange(NamedTuple):
    """A record batch: rows [start, stop) of its file, and how `BatchSource.read` finds it."""

    start: int
    stop: int
    where: int


class BatchSource(Protocol):
    """An open file or stream."""

    @property
    def schema(self) -> pa.Schema: ...

    def batches(self) -> Iterator[RowRange]:
        """All batches that have rows, in order."""

    def read(self, where: int, columns: Sequence[str]) -> pa.RecordBatch:
        """These columns of a batch, in the schema's order."""


def open_batches(path: str, options: StorageOptions | None) -> BatchSource:
    """The batches of a file; its first bytes tell the format.

    Raises InputError for Feather of version 1; whatever Arrow or the store's client raises.
    """
    with _bytes_of(path, options) as file:
        magic = file.read(len(_FILE))
        if magic.startswith(_FEATHER_1):
            raise InputError(
                f"{path}: is Feather of version 1; write it as Parquet: "
                f"pandas.read_feather(FILE).to_parquet('prompts.parquet')"
            )
        if magic == _FILE:
            return _File(path, options)
        file.seek(0)
        schema = ipc.open_stream(file).schema
    in_order = any(_has_dictionary(field.type) for field in schema)
    return _StreamInOrder(path, options) if in_order else _Stream(path, options)


class _File:
    """The file format: its footer tells where the batches are. `where`: their index."""

    def __init__(self, path: str, options: StorageOptions | None) -> None:
        self._file = _bytes_of(path, options)
        self._reader = ipc.open_file(self._file)
        self.schema = self._reader.schema
        self._columns: Sequence[str] = self.schema.names  # that `_reader` reads

    def batches(self) -> Iterator[RowRange]:
        start = 0
        for index in range(self._reader.num_record_batches):
            stop = start + self.read(index, self.schema.names[:1]).num_rows
            if stop > start:
                yield RowRange(start, stop, index)
            start = stop

    def read(self, where: int, columns: Sequence[str]) -> pa.RecordBatch:
        if list(columns) != list(self._columns):
            indices = [index for index, name in enumerate(self.schema.names) if name in columns]
            only = ipc.IpcReadOptions(included_fields=indices)
            self._reader, self._columns = ipc.open_file(self._file, options=only), columns
        return self._reader.get_batch(where)


class _Stream:
    """The stream format, without dictionaries. `where`: the byte offset of a batch."""

    def __init__(self, path: str, options: StorageOptions | None) -> None:
        self._path, self._options = path, options
        self._file = _bytes_of(path, options)
        self.schema = ipc.open_stream(self._file).schema

    def batches(self) -> Iterator[RowRange]:
        with _bytes_of(self._path, self._options) as file:
            reader = ipc.open_stream(file)
            start, offset = 0, file.tell()
            for batch in reader:
                if batch.num_rows:
                    yield RowRange(start, start + batch.num_rows, offset)
                start, offset = start + batch.num_rows, file.tell()

    def read(self, where: int, columns: Sequence[str]) -> pa.RecordBatch:
        self._file.seek(where)
        message = ipc.read_message(self._file)
        return ipc.read_record_batch(message, self.schema).select(list(columns))


class _StreamInOrder:
    """The stream format, with dictionaries, which any message may change. `where`: the index."""

    def __init__(self, path: str, options: StorageOptions | None) -> None:
        self._path, self._options = path, options
        self._reader = ipc.open_stream(_bytes_of(path, options))
        self._next = 0  # the index of the batch that `_reader` reads next
        self.schema = self._reader.schema

    def batches(self) -> Iterator[RowRange]:
        self._restart()
        start = 0
        for index, batch in enumerate(self._reader):
            if batch.num_rows:
                yield RowRange(start, start + batch.num_rows, index)
            start += batch.num_rows
        self._restart()

    def read(self, where: int, columns: Sequence[str]) -> pa.RecordBatch:
        if where < self._next:
            self._restart()
        batch = self._reader.read_next_batch()
        for _ in range(where - self._next):
            batch = self._reader.read_next_batch()
        self._next = where + 1
        return batch.select(list(columns))

    def _restart(self) -> None:
        self._reader = ipc.open_stream(_bytes_of(self._path, self._options))
        self._next = 0


def _bytes_of(path: str, options: StorageOptions | None) -> pa.NativeFile:
    file = arrow_file(path, options)
    return file if isinstance(file, pa.NativeFile) else pa.PythonFile(file, "r")


def _has_dictionary(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return _has_dictionary(kind.storage_type)
    inside = (kind.field(index).type for index in range(kind.num_fields))
    return bool(pa.types.is_dictionary(kind)) or any(map(_has_dictionary, inside))
