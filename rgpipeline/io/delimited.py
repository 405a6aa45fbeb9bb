"""CSV and TSV input, plain or compressed: a header, and columns of text."""

import re
from collections.abc import Iterator, MutableMapping, Sequence
from itertools import islice
from typing import IO, ClassVar

import pyarrow as pa
import pyarrow.csv as arrow_csv

from rgpipeline.errors import InputError
from rgpipeline.io.arrow_types import fitted
from rgpipeline.io.csv_rows import row_pattern, split_rows
from rgpipeline.io.input_files import FoundFile
from rgpipeline.io.readers import Rows, Scan, require_distinct, take_rows
from rgpipeline.io.row_stream import MARK_ROWS, RowStreams, is_compressed
from rgpipeline.records import InputFile
from rgpipeline.storage.filesystems import StorageOptions

_BLOCK = 1 << 20  # bytes that pyarrow parses at once, where no row is longer
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_DELIMITERS = ",;\t|"
_AS_UTF_8 = "write it as UTF-8: iconv -f {} -t UTF-8 FILE > prompts.csv"
_OPEN_QUOTE = "a quote is opened in {} and never closed"


class CsvReader:
    """`Reader` of .csv, .csv.gz and .csv.zst.

    Every value is text as it is written: `007` stays `007`. An empty field is null, and `""` is an
    empty text. A row with more or fewer fields than the header, with an open quote, or that is not
    UTF-8, is a row with a fault. Blank lines are skipped. Ranges are read as `row_stream` says.
    """

    delimiter: ClassVar[str] = ","
    pattern: ClassVar[re.Pattern[bytes]] = row_pattern(",")

    def __init__(self, options: StorageOptions | None) -> None:
        self._streams = RowStreams(options, self._split)
        self._header: tuple[str, list[str]] = ("", [])  # of the file that was read last

    def scan(self, file: FoundFile, limit: int | None = None) -> Scan:
        marks: list[int] = []
        count, good, fault = 0, False, ""
        with self._streams.open(file.path) as stream:
            rows = split_rows(stream, 0, self.pattern)
            names = self._names(file.path, next(rows, None))
            left = islice(rows, limit)
            while block := list(islice(left, MARK_ROWS)):
                marks.append(block[0][0])
                count += len(block)
                if not good:
                    faults: dict[int, str] = {}
                    self._parsed([row for _, row in block], names, (), faults)
                    good, fault = len(faults) < len(block), fault or faults.get(0, "")
        if count and not good:
            raise InputError(f"{file.path}: none of its {count} rows can be read (row 0: {fault})")
        schema = pa.schema([(name, pa.string()) for name in names])
        return Scan(count, schema, () if is_compressed(file.path) else tuple(marks))

    def read(
        self, file: InputFile, start: int, stop: int, schema: pa.Schema, used: Sequence[str] = ()
    ) -> Rows:
        rows = self._streams.rows(file, start, stop)
        names = self._names_in(file.path)
        wanted = [name for name in names if name in {*schema.names, *used}]
        faults: dict[int, str] = {}
        table = self._parsed(rows, names, wanted, faults)
        present = [name for name in used if name in wanted]
        return Rows(fitted(table, schema, faults), faults, table.select(present))

    def has_small_integers(self, path: str, column: str) -> bool:
        return False  # there are only texts

    def _split(self, stream: IO[bytes], offset: int) -> Iterator[tuple[int, bytes]]:
        """The rows after the header."""
        return islice(split_rows(stream, offset, self.pattern), 1 if offset == 0 else 0, None)

    def _names_in(self, path: str) -> list[str]:
        if self._header[0] != path:
            with self._streams.open(path) as stream:
                header = next(split_rows(stream, 0, self.pattern), None)
            self._header = path, self._names(path, header)
        return self._header[1]

    def _names(self, path: str, header: tuple[int, bytes] | None) -> list[str]:
        """The columns that a header names. Raises InputError."""
        if header is None:
            raise InputError(f"{path}: empty; its first line must name the columns")
        line = header[1]
        if line.startswith(_UTF_16) or b"\0" in line:
            raise InputError(f"{path}: is not UTF-8; {_AS_UTF_8.format('UTF-16')}")
        if fault := _encoding_fault(line):
            raise InputError(f"{path}: its header is {fault}")
        if not self.pattern.fullmatch(line + b"\n"):
            raise InputError(f"{path}: {_OPEN_QUOTE.format('its header')}")
        options = arrow_csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True)
        twice = pa.BufferReader(line + b"\n" + line)  # pyarrow asks for a row after the header
        names = arrow_csv.read_csv(twice, parse_options=options).column_names
        if len(names) == 1 and not line.startswith(b'"'):
            self._require_no_delimiter(path, names[0])
        named = [name or f"Unnamed: {index}" for index, name in enumerate(names)]  # as pandas does
        require_distinct(path, named)
        return named

    def _require_no_delimiter(self, path: str, name: str) -> None:
        other = next((one for one in _DELIMITERS if one in name and one != self.delimiter), None)
        if other is not None:
            raise InputError(
                f"{path}: has one column, {name!r}; if its columns are separated by {other!r} and "
                f"not by {self.delimiter!r}, write it as Parquet: "
                f"pandas.read_csv(FILE, sep={other!r}).to_parquet('prompts.parquet')"
            )

    def _parsed(
        self,
        rows: Sequence[bytes],
        names: Sequence[str],
        wanted: Sequence[str],
        faults: MutableMapping[int, str],
    ) -> pa.Table:
        """The columns `wanted`, with nulls and a fault in each row that can't be read."""
        found = self._text_faults(rows)
        sound = [index for index in range(len(rows)) if index not in found]
        table, refused = self._parse([rows[index] for index in sound], names, wanted)
        found |= {sound[index]: fault for index, fault in refused.items()}
        if not found:
            return table
        faults.update(found)
        good = iter(range(table.num_rows))
        return take_rows(
            table, [None if index in found else next(good) for index in range(len(rows))]
        )

    def _text_faults(self, rows: Sequence[bytes]) -> dict[int, str]:
        """What is wrong with rows before their fields are counted."""
        faults: dict[int, str] = {}
        if _encoding_fault(b"\n".join(rows)):
            found = ((index, _encoding_fault(row)) for index, row in enumerate(rows))
            faults = {index: fault for index, fault in found if fault}
        if rows and not self.pattern.fullmatch(rows[-1] + b"\n"):  # only a file's last row may
            lines = rows[-1].rstrip().count(b"\n")
            more = f" (its field holds the {lines:,} lines after it, too)" if lines else ""
            faults[len(rows) - 1] = f"{_OPEN_QUOTE.format('this row')}{more}"
        return faults

    def _parse(
        self, rows: Sequence[bytes], names: Sequence[str], wanted: Sequence[str]
    ) -> tuple[pa.Table, dict[int, str]]:
        """The columns `wanted` of the rows with as many fields as `names`, and the others' faults.

        Should pyarrow see other rows in these bytes, each is parsed alone.
        """
        faults: dict[int, str] = {}

        def refuse(row: arrow_csv.InvalidRow) -> str:
            fields = f"has {row.actual_columns} fields, and the header has {row.expected_columns}"
            more = row.actual_columns > row.expected_columns
            hint = f"; put fields with {self.delimiter!r} in them in quotes" if more else ""
            faults[row.number - 1] = f"{fields}{hint}"
            return "skip"

        read = [*wanted] or names[:1]
        schema = pa.schema([(name, pa.string()) for name in read])
        if not rows:
            return schema.empty_table().select(wanted), faults
        data = b"\n".join(rows) + b"\n"
        table = arrow_csv.read_csv(
            pa.BufferReader(data),
            arrow_csv.ReadOptions(
                use_threads=False,  # or rows have no numbers
                block_size=max(_BLOCK, 2 * max(map(len, rows))),
                column_names=names,
            ),
            arrow_csv.ParseOptions(
                delimiter=self.delimiter, newlines_in_values=True, invalid_row_handler=refuse
            ),
            arrow_csv.ConvertOptions(
                check_utf8=False,  # it was checked
                column_types=schema,
                include_columns=read,
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        if table.num_rows + len(faults) == len(rows):
            return table.select(wanted), faults
        if len(rows) == 1:
            return table.slice(0, 0).select(wanted), {0: "can't be read as one row"}
        pieces = [self._parse([row], names, wanted) for row in rows]
        alone = {index: piece[1][0] for index, piece in enumerate(pieces) if piece[1]}
        return pa.concat_tables([piece[0] for piece in pieces]), alone


class TsvReader(CsvReader):
    """`Reader` of .tsv, .tsv.gz and .tsv.zst: as CSV, with tabs between the fields."""

    delimiter = "\t"
    pattern = row_pattern("\t")


def _encoding_fault(text: bytes) -> str | None:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        byte = f"0x{text[error.start]:02x}"
        return f"not UTF-8 (byte {byte}); {_AS_UTF_8.format('WINDOWS-1252')}"
    return None
