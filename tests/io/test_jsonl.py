"""JSON Lines input: Python's own json is the oracle."""

import bz2
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from rgpipeline.errors import InputError
from rgpipeline.io import row_stream
from rgpipeline.io.input_files import FoundFile
from rgpipeline.io.json_types import is_json
from rgpipeline.io.jsonl import JsonLinesReader
from rgpipeline.io.readers import Rows, Scan
from rgpipeline.records import InputFile
from tests.storage.servers import Place

PACK: dict[str, Callable[[bytes], bytes]] = {
    "jsonl": bytes,
    "jsonl.gz": gzip.compress,
    "jsonl.zst": zstandard.compress,
}


def lines(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def scan(path: Path | str, options: Any = None) -> Scan:
    return JsonLinesReader(options).scan(FoundFile(str(path), "in", 0, ""))


def read(path: Path | str, start: int = 0, stop: int | None = None, options: Any = None) -> Rows:
    told = scan(path, options)
    file = InputFile(str(path), "in", 0, "", told.rows, told.marks)
    stop = told.rows if stop is None else stop
    return JsonLinesReader(options).read(file, start, stop, told.schema)


def write(folder: Path, data: bytes, name: str = "in.jsonl") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize(("start", "stop"), [(0, 10), (1020, 1030), (2047, 5000), (4999, 5000)])
def test_any_range_is_that_of_the_whole_file(
    tmp_path: Path, ending: str, start: int, stop: int
) -> None:
    rows = [{"prompt": f"prompt {k} é", "n": k} for k in range(5000)]
    path = write(tmp_path, PACK[ending](lines(rows)), f"in.{ending}")
    assert read(path, start, stop).table.to_pylist() == rows[start:stop]


@pytest.mark.parametrize("ending", ["jsonl.gz", "jsonl.zst"])
def test_compressed_files_put_together_are_read_to_the_end(tmp_path: Path, ending: str) -> None:
    rows = [{"n": k} for k in range(3000)]
    pack = PACK[ending]
    path = write(tmp_path, pack(lines(rows[:1000])) + pack(lines(rows[1000:])), f"in.{ending}")
    assert read(path).table.to_pylist() == rows


@pytest.mark.parametrize("ending", PACK)
def test_ranges_read_with_one_reader_in_any_order_are_the_same(tmp_path: Path, ending: str) -> None:
    rows = [{"n": k} for k in range(3000)]
    path = write(tmp_path, PACK[ending](lines(rows)), f"in.{ending}")
    told, reader = scan(path), JsonLinesReader(None)
    file = InputFile(str(path), "in", 0, "", told.rows, told.marks)
    for start, stop in [(0, 10), (10, 1500), (1400, 1600), (2990, 3000), (5, 6)]:
        assert reader.read(file, start, stop, told.schema).table.to_pylist() == rows[start:stop]


def test_a_compressed_file_read_in_order_is_unpacked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, gzip.compress(lines([{"n": k} for k in range(3000)])), "in.jsonl.gz")
    told, reader, opened = scan(path), JsonLinesReader(None), []
    file = InputFile(str(path), "in", 0, "", told.rows, told.marks)
    plain = row_stream.open_file
    monkeypatch.setattr(row_stream, "open_file", lambda *a: opened.append(a) or plain(*a))
    for start in range(0, 3000, 100):
        reader.read(file, start, start + 100, told.schema)
    assert len(opened) == 1


def test_a_range_is_read_from_the_nearest_mark(tmp_path: Path) -> None:
    path = write(tmp_path, lines([{"n": k} for k in range(5000)]))
    told = scan(path)
    assert len(told.marks) == 5
    spoilt = bytearray(path.read_bytes())
    spoilt[: told.marks[3]] = b"x" * told.marks[3]
    path.write_bytes(spoilt)
    file = InputFile(str(path), "in", 0, "", told.rows, told.marks)
    rows = JsonLinesReader(None).read(file, 3072, 3074, told.schema)
    assert (rows.table.to_pylist(), rows.faults) == ([{"n": 3072}, {"n": 3073}], {})


scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text()
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


def plain(value: Any) -> Any:
    """What types in common cost: numbers become floats, and absent keys null."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if plain(v) is not None} or None
    if isinstance(value, list):
        return [plain(v) for v in value]
    return repr(float(value)) if type(value) in (int, float) else value


def python_values(table: pa.Table, name: str) -> list[Any]:
    """A column's values as Python has them, those held as JSON text parsed."""
    found: list[Any] = table.column(name).to_pylist()
    if not is_json(table.schema.field(name)):
        return found
    return [None if value is None else json.loads(value) for value in found]


@settings(max_examples=300, deadline=None)
@given(rows=st.lists(st.dictionaries(st.sampled_from("abc"), values), min_size=1, max_size=5))
def test_values_come_back_whatever_their_types(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    path = write(tmp_path_factory.getbasetemp(), lines(rows), "any.jsonl")
    found = read(path)
    assert not found.faults
    for name in found.table.column_names:
        back = python_values(found.table, name)
        assert [plain(v) for v in back] == [plain(row.get(name)) for row in rows]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, None, 2], pa.int64()),
        ([1, 2.5, -(2**53)], pa.float64()),
        ([2**63, 0, 2**64 - 1], pa.uint64()),
        ([[2**63]], pa.list_(pa.uint64())),
        (["a", None], pa.string()),
        ([[1], []], pa.list_(pa.int64())),
        ([{"a": 1}, {"b": "x"}], pa.struct([("a", pa.int64()), ("b", pa.string())])),
        ([None, None], pa.null()),
    ],
)
def test_values_that_share_a_type_get_it(tmp_path: Path, values: list[Any], kind: Any) -> None:
    assert scan(write(tmp_path, lines([{"v": v} for v in values]))).schema == pa.schema(
        [("v", kind)]
    )


@pytest.mark.parametrize(
    "values",
    [
        ["a", 1],
        [0.5, False],
        [[1], "a"],
        [{}, {}],
        [{"a": 1}, {"a": "x"}],
        [-1, 2**63],
        [2**64],
        [0.5, 2**53 + 1],
        [{"a": [0.5]}, {"a": [2**60 + 1]}],
        [{f"key {k}": k for k in range(300)}],
    ],
)
def test_values_that_share_none_are_kept_as_json_text(tmp_path: Path, values: list[Any]) -> None:
    found = read(write(tmp_path, lines([{"v": v} for v in values]))).table
    assert is_json(found.schema.field("v"))
    assert [json.loads(text) for text in found.column("v").to_pylist()] == values


def test_a_type_is_that_of_all_rows_however_far_apart(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"v": 1}] * 9000 + [{"v": 0.5}]
    path = write(tmp_path, lines(rows))
    assert scan(path).schema.field("v").type == pa.float64()
    assert read(path, 8999, 9001).table.column("v").to_pylist() == [1.0, 0.5]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"not json", "not JSON"),
        (b'{"prompt": "cut', "not JSON"),
        (b'["a"]', "a JSON object is expected, found list"),
        (b'"a"', "a JSON object is expected, found str"),
        (b'{"prompt": "\xff"}', "not UTF-8"),
        (b"[" * 100_000, "not JSON"),
        (b'{"prompt": "\\ud800"}', "'prompt' can't be held as string"),
    ],
)
def test_a_bad_line_is_a_row_with_a_fault(tmp_path: Path, line: bytes, fault: str) -> None:
    data = lines([{"prompt": "a"}]) + line + b"\n" + lines([{"prompt": "b"}])
    rows = read(write(tmp_path, data))
    assert rows.table.column("prompt").to_pylist() == ["a", None, "b"]
    assert list(rows.faults) == [1]
    assert fault in rows.faults[1]


def test_blank_lines_marks_and_line_ends_are_no_rows(tmp_path: Path) -> None:
    data = b'\xef\xbb\xbf{"n": 1}\r\n\r\n  \n\n{"n": 2}'
    assert read(write(tmp_path, data)).table.column("n").to_pylist() == [1, 2]


@pytest.mark.parametrize("data", [b"", b"\n \n"])
def test_an_empty_file_is_named(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InputError, match=r"in.jsonl: empty; there are no rows"):
        scan(write(tmp_path, data))


def test_a_file_without_one_good_line_is_named_with_its_first_fault(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"in.jsonl: none of its 2 lines .*row 0: not JSON"):
        scan(write(tmp_path, b"a,b\n1,2\n"))


def test_a_line_that_is_no_json_tells_the_character_and_no_line(tmp_path: Path) -> None:
    rows = read(write(tmp_path, b'{"n": 1}\n{"n": }\n'))
    assert rows.faults == {1: "not JSON (Expecting value, character 7)"}


@pytest.mark.parametrize("ending", ["jsonl.gz", "jsonl.zst"])
@pytest.mark.parametrize("cut", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_named(tmp_path: Path, ending: str, cut: float) -> None:
    data = PACK[ending](lines([{"n": k * k} for k in range(20_000)]))
    path = write(tmp_path, data[: int(cut * len(data)) or 3], f"in.{ending}")
    with pytest.raises(InputError, match=f"{path}: corrupt, truncated or of another format"):
        scan(path)


def test_a_file_of_another_compression_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, bz2.compress(lines([{"n": 1}])), "in.jsonl.gz")
    with pytest.raises(InputError, match=f"{path}: corrupt, truncated or of another format"):
        scan(path)


def test_a_shorter_file_than_planned_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, lines([{"n": 1}]))
    file = InputFile(str(path), "in", 0, "", 5, (0,))
    with pytest.raises(InputError, match=r"in.jsonl: has only 1 rows now; it was changed"):
        JsonLinesReader(None).read(file, 0, 5, pa.schema([("n", pa.int64())]))


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.zst"])
def test_it_is_read_from_every_store(place: Place, ending: str) -> None:
    rows = [{"prompt": f"prompt {k}" * 10, "n": k} for k in range(30_000)]
    fs, folder = place.filesystem()
    fs.makedirs(folder, exist_ok=True)
    fs.pipe_file(f"{folder}/in.{ending}", PACK[ending](lines(rows)))
    found = read(f"{place.url}/in.{ending}", 20_000, 20_010, place.storage_options)
    assert found.table.to_pylist() == rows[20_000:20_010]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[\n{"prompt": "x"},\n{"prompt": "y"}\n]\n', "is a JSON array, not JSON Lines"),
        ('[{"prompt": "x"},\n{"prompt": "y"}]\n', "is a JSON array, not JSON Lines"),
        ('[{"prompt": "x"}, {"prompt": "y"}]\n', "is a JSON array, not JSON Lines"),
        ('[\n {\n  "prompt": "x"\n }\n]\n', "is a JSON array, not JSON Lines"),
        ('{\n "data": [\n  {"prompt": "x"}\n ]\n}\n', "is one JSON document over several"),
        ('{"data": [\n{"prompt": "x"},\n{"prompt": "y"}\n]}\n', "is one JSON document over"),
        ('{"prompt": "x"},\n{"prompt": "y"},\n{"prompt": "z"}\n', "is objects with commas between"),
    ],
)
@pytest.mark.parametrize("ending", PACK)
def test_json_that_is_one_document_is_refused_by_name(
    tmp_path: Path, text: str, told: str, ending: str
) -> None:
    path = write(tmp_path, PACK[ending](text.encode()), f"in.{ending}")
    with pytest.raises(InputError, match=f"in.{ending}: {told}"):
        scan(path)


@pytest.mark.parametrize("first", ["[1]", '{"prompt": "cut o', '{"prompt": "x"},', "null"])
def test_a_first_line_that_is_no_object_is_a_row_with_a_fault(tmp_path: Path, first: str) -> None:
    path = write(tmp_path, f'{first}\n{{"n": 1}}\n{{"n": 2}}\n'.encode())
    rows = read(path)
    assert list(rows.faults) == [0]
    assert rows.table.column("n").to_pylist() == [None, 1, 2]
