"""JSON Lines input, plain or compressed: one object on each line, with any keys."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import IO, Any

import pyarrow as pa

from rgpipeline.errors import InputError, RowError
from rgpipeline.io.input_files import FoundFile
from rgpipeline.io.json_types import ColumnTypes, column_of
from rgpipeline.io.readers import Rows, Scan
from rgpipeline.io.row_stream import BOM, MARK_ROWS, RowStreams, is_compressed
from rgpipeline.io.used_values import json_column
from rgpipeline.records import InputFile
from rgpipeline.storage.filesystems import StorageOptions
from rgpipeline.wording import encodable

_BLOCK_ROWS = 4096  # rows whose types are found at once
_HALVES = (rb"\ud", rb"\uD")  # begin the escapes of half surrogate pairs, which UTF-8 lacks

Row = dict[str, Any]


class JsonLinesReader:
    """`Reader` of .jsonl, .jsonl.gz and .jsonl.zst.

    Blank lines are skipped. A line that isn't a JSON object is a row with a fault. Types are found
    from the whole file; see `json_types`. Ranges are read as `row_stream` says.
    """

    def __init__(self, options: StorageOptions | None) -> None:
        self._streams = RowStreams(options, _lines)

    def parse(self, line: bytes) -> Row:
        """The row in a line. Raises RowError saying what is wrong with it."""
        return parse_object(line)

    def known(self, line: bytes) -> Row:
        """The columns that can be read from a line that `parse` refused."""
        return {}

    def columns(self, types: ColumnTypes) -> tuple[pa.Schema, ColumnTypes | None]:
        """The file's columns by its values' types; and these types, if other files may change
        the columns.
        """
        return types.schema(), types

    def scan(self, file: FoundFile, limit: int | None = None) -> Scan:
        types = ColumnTypes()
        marks: list[int] = []
        block: list[Row] = []
        count = good = 0
        first = b""
        fault = ""
        with self._streams.open(file.path) as stream:
            for offset, line in _lines(stream):
                if count == limit:
                    break
                first = first or line
                if count % MARK_ROWS == 0:
                    marks.append(offset)
                count += 1
                try:
                    block.append(self.parse(line))
                except RowError as error:
                    fault = fault or f"row {count - 1}: {error}"
                if len(block) == _BLOCK_ROWS:
                    types.add(block)
                    good, block = good + len(block), []
        types.add(block)
        if count == 0:
            raise InputError(f"{file.path}: empty; there are no rows in it")
        good += len(block)
        if document := document_fault(first, good, count - good):
            raise InputError(f"{file.path}: is {document}")
        if good == 0:
            raise InputError(f"{file.path}: none of its {count} lines can be read ({fault})")
        schema, open_types = self.columns(types)
        offsets = () if is_compressed(file.path) else tuple(marks)
        return Scan(count, schema, offsets, open_types)

    def read(
        self, file: InputFile, start: int, stop: int, schema: pa.Schema, used: Sequence[str] = ()
    ) -> Rows:
        rows: list[Row] = []
        faults: dict[int, str] = {}
        for line in self._streams.rows(file, start, stop):
            try:
                rows.append(self.parse(line))
            except RowError as error:
                faults[len(rows)] = str(error)
                rows.append(self.known(line))
        present = {name for row in rows for name in row}
        columns = [
            column_of(field, rows, faults)
            if field.name in present
            else pa.nulls(len(rows), field.type)
            for field in schema
        ]
        exact = [json_column(name, [row.get(name) for row in rows], faults) for name in used]
        used_schema = pa.schema([field for field, _ in exact])
        used_table = pa.table([column for _, column in exact], schema=used_schema)
        return Rows(pa.table(columns, schema=schema), faults, used_table)

    def has_small_integers(self, path: str, column: str) -> bool:
        return False  # its scans have `types`

    def lines(self, file: InputFile, rows: Collection[int]) -> list[bytes]:
        """The unparsed lines of these rows, in order.

        Raises InputError when the file has fewer rows.
        """
        first, last = min(rows, default=0), max(rows, default=-1)
        lines = enumerate(self._streams.rows(file, first, last + 1), first)
        return [line for row, line in lines if row in rows]


def parse_object(line: bytes) -> Row:
    """The JSON object in a line. Raises RowError."""
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RowError(f"not UTF-8 ({error.reason} at byte {error.start})") from error
    except json.JSONDecodeError as error:  # its own text speaks of a line 1
        raise RowError(f"not JSON ({error.msg}, character {error.pos + 1})") from error
    except (ValueError, RecursionError) as error:
        raise RowError(f"not JSON ({error})") from error
    if not isinstance(value, Mapping):
        raise RowError(f"a JSON object is expected, found {type(value).__name__}")
    return _with_encodable_keys(value) if any(half in line for half in _HALVES) else dict(value)


def _with_encodable_keys(row: Mapping[str, Any]) -> Row:
    """`row`, with keys that can be names of columns."""
    named = {encodable(key): value for key, value in row.items()}
    if len(named) < len(row):
        raise RowError("two of its keys differ only in how half a surrogate pair is spelled")
    return named


def _lines(stream: IO[bytes], offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """(byte offset, line) of every line that isn't blank; the stream stands at `offset`."""
    for line in stream:
        begin, offset = offset, offset + len(line)
        text = (line.removeprefix(BOM) if begin == 0 else line).strip()
        if text:
            yield begin, text


_WANTED = "not JSON Lines; a JSON object is expected on each line"
_ARRAY = (
    f"a JSON array, {_WANTED}: `jq -c '.[]' FILE > prompts.jsonl` writes that, or in Python "
    "open('prompts.jsonl', 'w').writelines(json.dumps(row) + '\\n' for row in "
    "json.load(open(FILE)))"
)
_SPREAD = f"one JSON document over several lines, {_WANTED}: `jq -c` writes one"
_COMMAS = f"objects with commas between them, {_WANTED}, and no comma after it"


def document_fault(first: bytes, good: int, bad: int) -> str | None:
    """What kind of JSON file this is, if it isn't JSON Lines; None if it may be JSON Lines.

    Args:
      first: the first line that isn't blank, without white space around it.
      good, bad: how many lines are JSON objects, and how many aren't.
    """
    if _is_json(first):
        return _ARRAY if first.startswith(b"[") and not good else None
    if first.startswith(b"["):
        return _ARRAY
    if first == b"{":
        return _SPREAD
    if first.startswith(b"{") and good < bad:
        if first.endswith((b"{", b"[")):
            return _SPREAD
        if first.endswith(b",") and _is_json(first[:-1]):
            return _COMMAS
    return None


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
