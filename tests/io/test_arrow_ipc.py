"""Arrow IPC input, as a file and as a stream: pyarrow's own reading is the judge."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.ipc as ipc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rgpipeline.errors import InputError
from rgpipeline.io import arrow_batches
from rgpipeline.io.arrow_ipc import ArrowReader
from rgpipeline.io.input_files import FoundFile
from rgpipeline.io.readers import Rows, Scan
from rgpipeline.records import InputFile
from tests.storage.servers import Place

ROWS, BATCH = 500, 60
Write = Callable[[pa.Table, Path], None]


@cache
def table(dictionary: bool = False) -> pa.Table:
    numbers = range(ROWS)
    kinds = pa.array([f"kind {k % 5}" for k in numbers])
    return pa.table(
        {
            "prompt": pa.array([f"prompt {k}" for k in numbers], pa.string_view()),
            "nested": [{"a": [k] * (k % 3), "b": str(k)} for k in numbers],
            "kind": kinds.dictionary_encode() if dictionary else kinds,
            "n": pa.array([None if k % 7 else k for k in numbers], pa.int16()),
        }
    )


def as_file(rows: pa.Table, path: Path, compression: str | None = None) -> None:
    options = ipc.IpcWriteOptions(compression=compression)
    with ipc.new_file(str(path), rows.schema, options=options) as writer:
        writer.write_table(rows.slice(0, 0))
        writer.write_table(rows, BATCH)


def as_stream(rows: pa.Table, path: Path, compression: str | None = None) -> None:
    options = ipc.IpcWriteOptions(compression=compression)
    with ipc.new_stream(str(path), rows.schema, options=options) as writer:
        writer.write_table(rows, BATCH)


KINDS: dict[str, Write] = {
    "file": as_file,
    "file.zstd": lambda rows, path: as_file(rows, path, "zstd"),
    "stream": as_stream,
    "stream.lz4": lambda rows, path: as_stream(rows, path, "lz4"),
    "feather": lambda rows, path: feather.write_feather(
        rows.set_column(0, "prompt", rows["prompt"].cast(pa.string())), str(path), chunksize=BATCH
    ),
}


@pytest.fixture(scope="module", params=[(kind, d) for kind in KINDS for d in (False, True)])
def given_file(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, pa.Table]:
    """A file of each kind, with and without dictionaries, and its rows."""
    kind, dictionary = request.param
    path = tmp_path_factory.mktemp("arrow") / "in.arrow"
    KINDS[kind](table(dictionary), path)
    return path, table(dictionary)


def scan(path: Path | str, options: Any = None) -> Scan:
    return ArrowReader(options).scan(FoundFile(str(path), "in", 0, ""))


def file(path: Path | str, told: Scan, marks: bool = True) -> InputFile:
    return InputFile(str(path), "in", 0, "", told.rows, told.marks if marks else ())


def read(path: Path | str, start: int, stop: int, options: Any = None) -> Rows:
    told = scan(path, options)
    return ArrowReader(options).read(file(path, told), start, stop, told.schema, ["prompt"])


@pytest.mark.parametrize(("start", "stop"), [(0, ROWS), (59, 61), (130, 131), (499, 500)])
def test_any_range_is_that_of_the_whole_file(
    given_file: tuple[Path, pa.Table], start: int, stop: int
) -> None:
    path, expected = given_file
    rows = read(path, start, stop)
    assert rows.table.to_pylist() == expected.slice(start, stop - start).to_pylist()
    assert rows.used is not None
    assert rows.used["prompt"].to_pylist() == expected["prompt"][start:stop].to_pylist()
    assert not rows.faults


@given(ranges=st.lists(st.tuples(st.integers(0, ROWS), st.integers(0, ROWS)), max_size=5))
@settings(max_examples=15)
def test_one_reader_reads_ranges_in_any_order_with_or_without_marks(
    given_file: tuple[Path, pa.Table], ranges: list[tuple[int, int]]
) -> None:
    path, expected = given_file
    told, reader = scan(path), ArrowReader(None)
    for one, other in ranges:
        start, stop = sorted((one, other))
        for marks in (True, False):
            rows = reader.read(file(path, told, marks), start, stop, told.schema)
            assert rows.table["n"].to_pylist() == expected["n"][start:stop].to_pylist()


def test_types_are_the_files_own(given_file: tuple[Path, pa.Table]) -> None:
    path, expected = given_file
    told = scan(path)
    assert told.rows == ROWS
    assert told.schema.remove_metadata().field("kind") == expected.schema.field("kind")
    assert told.schema.field("n").type == pa.int16()


def test_only_the_batches_of_a_range_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for write in (as_file, as_stream):
        path = tmp_path / "in.arrow"
        write(table(), path)
        told = scan(path)
        kind = type(arrow_batches.open_batches(str(path), None))
        taken: list[int] = []
        plain = kind.read
        monkeypatch.setattr(
            kind, "read", lambda s, w, c, p=plain, t=taken: t.append(w) or p(s, w, c)
        )
        ArrowReader(None).read(file(path, told), 130, 190, told.schema)
        assert taken == [told.marks[5], told.marks[7]]  # of the batches of rows 120 and 180


def test_a_damaged_batch_costs_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "in.arrow"
    as_stream(table(), path, "zstd")
    told = scan(path)
    data = bytearray(path.read_bytes())
    second = told.marks[3]
    data[second + 8 : second + 100] = b"\xff" * 92  # of its metadata
    path.write_bytes(data)
    rows = ArrowReader(None).read(file(path, told), 50, 130, told.schema)
    assert sorted(rows.faults) == list(range(10, 70))
    assert "in.arrow: corrupt" in rows.faults[10]
    assert rows.table["prompt"][9].as_py() == "prompt 59"
    assert rows.table["prompt"][70].as_py() == "prompt 120"


def test_text_that_is_not_utf8_costs_its_row(tmp_path: Path) -> None:
    held = pa.array([b"a", b"\xff", b"c"], pa.binary())
    text = pa.StringArray.from_buffers(3, *held.buffers()[1:], held.buffers()[0])
    path = tmp_path / "in.arrow"
    as_file(pa.table({"prompt": text}), path)
    rows = read(path, 0, 3)
    assert rows.faults == {1: "'prompt': not valid; text must be UTF-8"}


def test_columns_that_a_file_lacks_are_null_and_others_are_widened(tmp_path: Path) -> None:
    path = tmp_path / "in.arrow"
    as_stream(table(), path)
    schema = pa.schema([("n", pa.int64()), ("z", pa.string())])
    rows = ArrowReader(None).read(file(path, scan(path)), 0, 2, schema, ["z"])
    assert rows.table.schema == schema
    assert rows.table.to_pylist() == [{"n": 0, "z": None}, {"n": None, "z": None}]
    assert rows.used is not None
    assert rows.used.num_columns == 0


def test_a_limit_ends_the_scan(tmp_path: Path) -> None:
    path = tmp_path / "in.arrow"
    as_stream(table(), path)
    told = ArrowReader(None).scan(FoundFile(str(path), "in", 0, ""), 100)
    assert (told.rows, told.marks[::2]) == (100, (0, 60))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "corrupt, truncated"),
        (b"prompt\nx\n", "corrupt, truncated or of another format"),
        (b"ARROW1\0\0", "corrupt, truncated"),
        (b"FEA1....", r"is Feather of version 1; .*pandas\.read_feather"),
    ],
)
def test_what_is_no_arrow_file_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "in.arrow"
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"in\.arrow: .*{message}"):
        scan(path)


@pytest.mark.parametrize("write", [as_file, as_stream])
def test_a_truncated_file_is_refused(tmp_path: Path, write: Write) -> None:
    path = tmp_path / "in.arrow"
    write(table(), path)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(InputError, match=r"in\.arrow: corrupt, truncated"):
        scan(path)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.arrow"
    as_file(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]), path)
    with pytest.raises(InputError, match="two columns called 'a'"):
        scan(path)


def test_a_store_gives_the_same_rows(place: Place, tmp_path: Path) -> None:
    fs, inside = place.filesystem()
    fs.makedirs(inside, exist_ok=True)
    for write in (as_file, as_stream):
        write(table(), tmp_path / "in.arrow")
        fs.pipe_file(f"{inside}/in.arrow", (tmp_path / "in.arrow").read_bytes())
        rows = read(f"{place.url}/in.arrow", 130, 190, options=place.storage_options)
        assert rows.table.to_pylist() == table().slice(130, 60).to_pylist()
