"""JSON Lines input, plain or compressed: one object a line, whatever its keys."""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import pyarrow as pa

from rgpipeline.errors import InputError, RowError
from rgpipeline.io.files import COMPRESSIONS, FoundFile, decompressed, explained, open_file
from rgpipeline.io.json_types import ColumnTypes, column_of
from rgpipeline.io.options import StorageOptions
from rgpipeline.io.readers import Rows, Scan
from rgpipeline.records import InputFile

_MARK_ROWS = 1024  # rows between the byte offsets that a plan keeps of a plain file
_BLOCK_ROWS = 4096  # rows whose types are found at once
_BOM = b"\xef\xbb\xbf"

Row = dict[str, Any]


class JsonLinesReader:
    """`Reader` of .jsonl, .jsonl.gz and .jsonl.zst.

    Blank lines are no rows. A line that isn't a JSON object is a row with a fault. Types are
    found over the whole file; see `json_types`.
    """

    def __init__(self, options: StorageOptions | None) -> None:
        self._options = options

    def parse(self, line: bytes) -> Row:
        """The row in a line. Raises RowError saying what is wrong with it."""
        return parse_object(line)

    def schema(self, types: ColumnTypes) -> pa.Schema:
        """The file's columns, from the types that its values showed."""
        return types.schema()

    def scan(self, file: FoundFile, limit: int | None = None) -> Scan:
        types = ColumnTypes()
        marks: list[int] = []
        block: list[Row] = []
        count = good = 0
        fault = ""
        with self._open(file.path) as stream:
            for offset, line in _lines(stream):
                if count == limit:
                    break
                if count % _MARK_ROWS == 0:
                    marks.append(offset)
                count += 1
                try:
                    block.append(self.parse(line))
                except RowError as error:
                    fault = fault or f"line {count}: {error}"
                if len(block) == _BLOCK_ROWS:
                    types.add(block)
                    good, block = good + len(block), []
        types.add(block)
        if count == 0:
            raise InputError(f"{file.path}: empty; there are no rows in it")
        if good + len(block) == 0:
            raise InputError(f"{file.path}: none of its {count} lines can be read ({fault})")
        seekable = not file.path.endswith(tuple(COMPRESSIONS))
        return Scan(count, self.schema(types), tuple(marks) if seekable else ())

    def read(self, file: InputFile, start: int, stop: int, schema: pa.Schema) -> Rows:
        rows: list[Row] = []
        faults: dict[int, str] = {}
        with self._open(file.path) as stream:
            row, offset = _seek(stream, file.marks, start)
            for _, line in _lines(stream, offset):
                if row >= stop:
                    break
                if row >= start:
                    try:
                        rows.append(self.parse(line))
                    except RowError as error:
                        faults[len(rows)] = str(error)
                        rows.append({})
                row += 1
        if row < stop:
            raise InputError(f"{file.path}: has only {row} rows now; it was changed")
        columns = [column_of(field, rows, faults) for field in schema]
        return Rows(pa.table(columns, schema=schema), faults)

    def lines(self, file: InputFile, rows: Collection[int]) -> list[bytes]:
        """The lines of these rows, in order, as they stand in the file.

        Raises InputError when the file has fewer rows.
        """
        found: list[bytes] = []
        with self._open(file.path) as stream:
            row, offset = _seek(stream, file.marks, min(rows, default=0))
            for _, line in _lines(stream, offset):
                if len(found) == len(rows):
                    break
                if row in rows:
                    found.append(line)
                row += 1
        if len(found) < len(rows):
            raise InputError(f"{file.path}: has no row {max(rows)} now; it was changed")
        return found

    @contextmanager
    def _open(self, path: str) -> Iterator[IO[bytes]]:
        try:
            with open_file(path, self._options) as file:
                yield decompressed(file, path)
        except Exception as error:
            raise explained(path, error) from error


def parse_object(line: bytes) -> Row:
    """The JSON object in a line. Raises RowError."""
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RowError(f"not UTF-8 ({error.reason} at byte {error.start})") from error
    except (ValueError, RecursionError) as error:
        raise RowError(f"not JSON ({error})") from error
    if not isinstance(value, Mapping):
        raise RowError(f"a JSON object is expected, found {type(value).__name__}")
    return dict(value)


def _lines(stream: IO[bytes], offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """(byte offset, line) of every line that isn't blank; the stream stands at `offset`."""
    for line in stream:
        begin, offset = offset, offset + len(line)
        text = (line.removeprefix(_BOM) if begin == 0 else line).strip()
        if text:
            yield begin, text


def _seek(stream: IO[bytes], marks: tuple[int, ...], start: int) -> tuple[int, int]:
    """Goes to the last known place at or before row `start`; returns its row and byte offset."""
    if not marks:
        return 0, 0
    mark = min(start // _MARK_ROWS, len(marks) - 1)
    stream.seek(marks[mark])
    return mark * _MARK_ROWS, marks[mark]
