"""CSV and TSV input: pandas and pyarrow are the judges."""

import csv
import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from rgpipeline.errors import InputError
from rgpipeline.io import csv_rows, row_stream
from rgpipeline.io.delimited import CsvReader, TsvReader
from rgpipeline.io.input_files import FoundFile
from rgpipeline.io.readers import Rows, Scan
from rgpipeline.records import InputFile
from tests.storage.servers import Place

PACK: dict[str, Callable[[bytes], bytes]] = {
    "csv": bytes,
    "csv.gz": gzip.compress,
    "csv.zst": zstandard.compress,
}
Reader = type[CsvReader]
AWKWARD = st.text('ab,"\n\r\t;é ', max_size=6)


def scan(path: Path | str, reader: Reader = CsvReader, options: Any = None) -> Scan:
    return reader(options).scan(FoundFile(str(path), "in", 0, ""))


def file(path: Path | str, told: Scan) -> InputFile:
    return InputFile(str(path), "in", 0, "", told.rows, told.marks)


def read(path: Path | str, start: int = 0, stop: int | None = None, **options: Any) -> Rows:
    told = scan(path, **options)
    stop = told.rows if stop is None else stop
    reader = options.pop("reader", CsvReader)(options.pop("options", None))
    return reader.read(file(path, told), start, stop, told.schema, told.schema.names)


def write(folder: Path, data: bytes | str, name: str = "in.csv") -> Path:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def rows_of(folder: Path, data: bytes | str) -> list[dict[str, Any]]:
    table: Any = read(write(folder, data)).table
    return list(table.to_pylist())


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5,000 rows, of which many have line breaks, in every compression."""
    folder = tmp_path_factory.mktemp("csv")
    prompts = [f'say "{k}",\nplease é' if k % 3 else f"plain {k}" for k in range(5000)]
    text = pd.DataFrame({"id": range(5000), "prompt": prompts}).to_csv(index=False)
    for ending, pack in PACK.items():
        write(folder, pack(text.encode()), f"in.{ending}")
    return folder


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize(("start", "stop"), [(0, 10), (1020, 1030), (2047, 5000), (4999, 5000)])
def test_any_range_is_that_of_the_whole_file(big: Path, ending: str, start: int, stop: int) -> None:
    expected = pd.read_csv(big / "in.csv", dtype=str)[start:stop].to_dict("records")
    assert read(big / f"in.{ending}", start, stop).table.to_pylist() == expected


def test_one_reader_reads_ranges_in_any_order(big: Path) -> None:
    for ending in PACK:
        path = big / f"in.{ending}"
        told, reader = scan(path), CsvReader(None)
        for start, stop in [(0, 10), (10, 1500), (1400, 1600), (2990, 3000), (5, 6)]:
            table = reader.read(file(path, told), start, stop, told.schema).table
            assert table["id"].to_pylist() == [str(k) for k in range(start, stop)]


def test_a_range_is_read_from_its_mark(big: Path) -> None:
    data = bytearray((big / "in.csv").read_bytes())
    told = scan(big / "in.csv")
    header = data.index(b"\n") + 1
    data[header : told.marks[3]] = b"x" * (told.marks[3] - header)
    path = write(big, bytes(data), "damaged.csv")
    table = CsvReader(None).read(file(path, told), 3 * 1024, 5000, told.schema).table
    assert table["id"].to_pylist() == [str(k) for k in range(3 * 1024, 5000)]


@given(
    rows=st.lists(st.tuples(AWKWARD, AWKWARD), min_size=1, max_size=8),
    dialect=st.sampled_from([csv.excel, csv.unix_dialect]),
    delimiter=st.sampled_from(",\t"),
    block=st.integers(1, 40),
)
@settings(max_examples=150)
def test_what_csv_writers_write_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str]],
    dialect: type[csv.Dialect],
    delimiter: str,
    block: int,
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, dialect, delimiter=delimiter)
    writer.writerows([("a", "b"), *rows])
    path = write(tmp_path_factory.getbasetemp(), text.getvalue(), "written.csv")
    reader = CsvReader if delimiter == "," else TsvReader
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_rows, "_CHUNK", block)
        found = read(path, reader=reader).table.to_pylist()
    assert [(row["a"] or "", row["b"] or "") for row in found] == rows


@given(data=st.lists(st.sampled_from([b"a", b",", b'"', b"\n", b"\r", b"\r\n", b"\xc3\xa9"])))
@settings(max_examples=300)
def test_what_pyarrow_reads_is_read_as_it_reads_it(
    tmp_path_factory: pytest.TempPathFactory, data: list[bytes]
) -> None:
    """Any bytes with closed quotes: the same rows, and the same rows are refused."""
    text = b'h,i\n"' + b"".join(data) + b'"\n'
    if not CsvReader.pattern.fullmatch(_last_row(text) + b"\n"):
        return
    refused: list[int] = []

    def skip(row: arrow_csv.InvalidRow) -> str:
        refused.append(row.number - 2)  # counted from 1, and with the header
        return "skip"

    judge = arrow_csv.read_csv(
        pa.BufferReader(text),
        arrow_csv.ReadOptions(use_threads=False),
        arrow_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
        arrow_csv.ConvertOptions(
            column_types={"h": pa.string(), "i": pa.string()},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    path = write(tmp_path_factory.getbasetemp(), text, "any.csv")
    if not judge.num_rows:
        with pytest.raises(InputError, match="none of its"):
            scan(path)
        return
    found = read(path)
    assert sorted(found.faults) == refused
    good = [k for k in range(found.table.num_rows) if k not in found.faults]
    assert found.table.take(good).to_pylist() == judge.to_pylist()


def _last_row(text: bytes) -> bytes:
    return [row for _, row in csv_rows.split_rows(io.BytesIO(text), 0, CsvReader.pattern)][-1]


def test_values_are_text_as_they_are_written(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path, "a,b,c,d\n007, 1.50,NA,true\n")
    assert row == {"a": "007", "b": " 1.50", "c": "NA", "d": "true"}


def test_an_empty_field_is_null_and_quotes_around_nothing_are_an_empty_text(tmp_path: Path) -> None:
    assert rows_of(tmp_path, 'a,b\n,""\n') == [{"a": None, "b": ""}]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_break_ends_a_row_and_blank_lines_are_skipped(
    tmp_path: Path, ending: str
) -> None:
    text = ending.join(["", "\ufeffa,b"[1:], "", "1,2", "", '"x\r\ny",3'])
    assert rows_of(tmp_path, text) == [{"a": "1", "b": "2"}, {"a": "x\r\ny", "b": "3"}]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    assert rows_of(tmp_path, "\ufeffprompt\nx\n") == [{"prompt": "x"}]
    assert rows_of(tmp_path, '\ufeff"prompt"\nx\n') == [{"prompt": "x"}]


def test_a_bad_row_costs_itself(tmp_path: Path) -> None:
    bad = b"a,b\n1,2\n3\n4,5,6\n\xe9,7\n8,9\n"
    found = read(write(tmp_path, bad))
    assert [row["a"] for row in found.table.to_pylist()] == ["1", None, None, None, "8"]
    assert found.faults[1] == "has 1 fields, and the header has 2"
    assert found.faults[2].startswith("has 3 fields, and the header has 2; put fields with ','")
    assert found.faults[3].startswith("not UTF-8 (byte 0xe9); write it as UTF-8: iconv")
    assert len(found.faults) == 3


def test_a_quote_that_is_never_closed_costs_the_rest_and_the_error_counts_it(
    tmp_path: Path,
) -> None:
    found = read(write(tmp_path, 'a,b\n1,2\n"3,4\n5,6\n7,8\n'))
    assert found.table["a"].to_pylist() == ["1", None]
    assert found.faults == {
        1: "a quote is opened in this row and never closed (its field holds the 2 lines after it, "
        "too)"
    }


def test_a_row_that_never_ends_is_refused_before_memory_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_rows, "_LONGEST", 1 << 19)
    path = write(tmp_path, 'a\n"' + "x\n" * (1 << 20))
    with pytest.raises(InputError, match=r"in.csv: .*the row at byte 2 has more than 524,288"):
        scan(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"in.csv: empty; its first line must name the columns"),
        (b"\n\n", r"in.csv: empty"),
        ("a,b\n1,2\n".encode("utf-16"), r"in.csv: is not UTF-8; .*iconv -f UTF-16"),
        ("a,b\n1,2\n".encode("utf-16-le"), r"in.csv: is not UTF-8; .*iconv -f UTF-16"),
        ("é,b\n1,2\n".encode("latin-1"), r"in.csv: its header is not UTF-8 .*iconv -f WINDOWS"),
        (b"a,b,a\n1,2,3\n", r"in.csv: has two columns called 'a'"),
        (b"a;b\n1;2\n", r"in.csv: has one column, 'a;b'; .*read_csv\(FILE, sep=';'\)"),
        (b'"a,b\n1,2\n', r"in.csv: a quote is opened in its header and never closed"),
        (b"a,b\n1\n2\n", r"in.csv: none of its 2 rows can be read \(row 0: has 1 fields"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        scan(write(tmp_path, data))


def test_columns_without_a_name_are_called_as_pandas_calls_them(tmp_path: Path) -> None:
    text = pd.DataFrame({"prompt": ["x", "y"]}).to_csv()  # with its index
    path = write(tmp_path, text)
    assert scan(path).schema.names == [*pd.read_csv(path).columns]


def test_a_header_alone_is_a_file_without_rows(tmp_path: Path) -> None:
    assert scan(write(tmp_path, "a,b\n")).rows == 0


def test_a_limit_ends_the_scan(tmp_path: Path) -> None:
    path = write(tmp_path, "a\n" + "x\n" * 3000)
    told = CsvReader(None).scan(FoundFile(str(path), "in", 0, ""), 1500)
    assert (told.rows, len(told.marks)) == (1500, 2)


def test_columns_are_those_asked_for_and_missing_ones_are_null(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b,c\n1,2,3\n")
    schema = pa.schema([("c", pa.string()), ("z", pa.int64())])
    rows = CsvReader(None).read(file(path, scan(path)), 0, 1, schema, ["b", "z"])
    assert rows.table.to_pylist() == [{"c": "3", "z": None}]
    assert rows.used is not None
    assert rows.used.to_pylist() == [{"b": "2"}]


def test_a_file_that_lost_rows_was_changed(tmp_path: Path) -> None:
    path = write(tmp_path, "a\n1\n2\n")
    told = scan(path)
    write(tmp_path, "a\n1\n")
    with pytest.raises(InputError, match=r"in.csv: has only 1 rows now; it was changed"):
        CsvReader(None).read(file(path, told), 0, 2, told.schema)


@pytest.mark.parametrize("ending", ["csv.gz", "csv.zst"])
def test_a_truncated_compressed_file_is_refused(tmp_path: Path, ending: str) -> None:
    data = PACK[ending](b"a,b\n" + b"".join(b"%d,x\n" % (k * 7919) for k in range(20000)))
    with pytest.raises(InputError, match=r"in.csv.*: corrupt, truncated"):
        scan(write(tmp_path, data[: len(data) // 2], f"in.{ending}"))


def test_a_compressed_files_shards_are_read_in_one_pass(
    big: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = big / "in.csv.gz"
    told, reader = scan(path), CsvReader(None)
    opened: list[Any] = []
    plain = row_stream.open_file
    monkeypatch.setattr(row_stream, "open_file", lambda *a: opened.append(a) or plain(*a))
    for start in range(0, 5000, 500):
        reader.read(file(path, told), start, start + 500, told.schema)
    assert len(opened) == 2  # for the rows, and for the header


def test_a_store_gives_the_same_rows(place: Place, big: Path) -> None:
    fs, inside = place.filesystem()
    fs.makedirs(inside, exist_ok=True)
    fs.pipe_file(f"{inside}/in.csv", (big / "in.csv").read_bytes())
    options = place.storage_options
    found = read(f"{place.url}/in.csv", 3000, 3005, options=options).table
    assert found["id"].to_pylist() == [str(k) for k in range(3000, 3005)]
