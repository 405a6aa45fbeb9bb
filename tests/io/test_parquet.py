"""Parquet input: pyarrow's own reading of the whole file is the oracle."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rgpipeline.errors import InputError
from rgpipeline.io.input_files import FoundFile, arrow_file
from rgpipeline.io.parquet import ParquetReader
from rgpipeline.io.paths import expand_inputs
from rgpipeline.io.readers import Rows
from rgpipeline.records import InputFile
from tests.storage.proxy import faulty_proxy
from tests.storage.seaweed import Seaweed
from tests.storage.servers import Place

ROWS, GROUP = 5000, 1500
NESTED = pa.struct([("a", pa.list_(pa.int32())), ("b", pa.map_(pa.string(), pa.float64()))])


@cache
def table() -> pa.Table:
    numbers = range(ROWS)
    return pa.table(
        {
            "prompt": pa.array([f"prompt {k}" for k in numbers], pa.large_string()),
            "nested": pa.array([{"a": [k] * (k % 3), "b": [("x", k)]} for k in numbers], NESTED),
            "kind": pa.array([f"kind {k % 5}" for k in numbers]).dictionary_encode(),
            "some.dots": pa.array([None if k % 7 else k for k in numbers], pa.int64()),
        }
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("parquet") / "in.parquet"
    pq.write_table(table(), path, row_group_size=GROUP)
    return str(path)


def file(path: str, rows: int = ROWS) -> InputFile:
    return InputFile(path, "in.parquet", 0, "", rows)


def found(path: str | Path) -> FoundFile:
    return FoundFile(str(path), "in.parquet", 0, "")


def read(path: str, start: int, stop: int, schema: pa.Schema | None = None) -> Rows:
    return ParquetReader(None).read(file(path), start, stop, schema or table().schema)


def test_a_scan_tells_rows_and_exact_columns(path: str) -> None:
    scan = ParquetReader(None).scan(found(path))
    assert (scan.rows, scan.schema) == (ROWS, table().schema)
    assert ParquetReader(None).scan(found(path), limit=7).rows == 7


@settings(max_examples=40, deadline=None)
@given(st.integers(0, ROWS - 1), st.integers(1, 2 * GROUP))
def test_any_range_is_that_of_the_whole_file(path: str, start: int, length: int) -> None:
    stop = min(ROWS, start + length)
    rows = read(path, start, stop)
    assert rows.table.equals(table().slice(start, stop - start))
    assert not rows.faults


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, ROWS - 1), st.integers(1, 2000)), max_size=6))
def test_ranges_read_with_one_reader_in_any_order_are_the_same(
    path: str, ranges: list[tuple[int, int]]
) -> None:
    reader = ParquetReader(None)
    for start, length in ranges:
        stop = min(ROWS, start + length)
        rows = reader.read(file(path), start, stop, table().schema)
        assert rows.table.equals(table().slice(start, stop - start))


def test_a_large_row_group_is_read_as_far_as_it_is_wanted_and_once(
    seaweed_server: Seaweed, new_place: Callable[[str], Place]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3000, 1 << 14), np.uint8)
    big = pa.table({"text": [row.tobytes() for row in noise]})  # 47 MiB in one group
    sink = pa.BufferOutputStream()
    pq.write_table(big, sink)
    fs, folder = new_place("seaweedfs").filesystem()
    fs.pipe_file(f"{folder}/big.parquet", sink.getvalue().to_pybytes())
    with faulty_proxy(seaweed_server.endpoint) as proxy:
        reader = ParquetReader({"s3": {"endpoint_url": proxy.endpoint}})
        input = file(f"s3://{folder}/big.parquet", 3000)
        assert reader.read(input, 0, 100, big.schema).table.equals(big.slice(0, 100))
        assert proxy.read_bytes < 24 << 20
        for start in range(100, 3000, 100):
            rows = reader.read(input, start, start + 100, big.schema)
            assert rows.table.equals(big.slice(start, 100))
        assert proxy.read_bytes < 60 << 20


def test_columns_come_as_they_are_asked_for_and_missing_ones_are_null(path: str) -> None:
    schema = pa.schema([("absent", pa.list_(pa.int8())), ("some.dots", pa.float64())])
    rows = read(path, 7, 9, schema)
    assert rows.table.schema == schema
    assert rows.table.to_pylist() == [
        {"absent": None, "some.dots": 7.0},
        {"absent": None, "some.dots": None},
    ]


def test_a_row_group_is_read_by_range_not_the_file(
    seaweed_server: Seaweed, new_place: Callable[[str], Place]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 1 << 18), np.uint8)
    big = pa.table({"text": [row.tobytes() for row in noise], "number": list(range(32))})
    sink = pa.BufferOutputStream()
    pq.write_table(big, sink, row_group_size=4)  # 8 groups of 1 MiB
    fs, folder = new_place("seaweedfs").filesystem()
    fs.pipe_file(f"{folder}/big.parquet", sink.getvalue().to_pybytes())
    with faulty_proxy(seaweed_server.endpoint) as proxy:
        reader = ParquetReader({"s3": {"endpoint_url": proxy.endpoint}})
        url = f"s3://{folder}/big.parquet"
        assert reader.scan(found(url)).rows == 32
        assert proxy.read_bytes < 100_000
        rows = reader.read(file(url, 32), 13, 15, big.schema)
        assert rows.table.equals(big.slice(13, 2))
        assert proxy.read_bytes < 1_600_000
        numbers = reader.read(file(url, 32), 0, 32, big.schema.remove(0))
        assert numbers.table.column(0).to_pylist() == list(range(32))
        assert proxy.read_bytes < 2_000_000


def test_a_corrupt_row_group_costs_its_own_rows(path: str, tmp_path: Path) -> None:
    data = bytearray(Path(path).read_bytes())
    column = pq.read_metadata(path).row_group(1).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + 400] = b"\xff" * 400
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(data)
    rows = read(str(bad), 1000, 4000)
    assert rows.faults.keys() == set(range(500, 2000))
    assert all(fault.startswith(f"{bad}: corrupt") for fault in rows.faults.values())
    assert rows.table.slice(0, 500).equals(table().slice(1000, 500))
    assert rows.table.slice(2000).equals(table().slice(3000, 1000))
    assert rows.table.slice(500, 1500).column("prompt").null_count == 1500


@pytest.mark.parametrize("keep", [0, 3, 100, 1 / 2, -1], ids=str)
def test_an_empty_or_truncated_file_is_named(path: str, tmp_path: Path, keep: float) -> None:
    data = Path(path).read_bytes()
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(data[: int(keep * len(data)) if 0 < keep < 1 else int(keep)])
    for use in (lambda: ParquetReader(None).scan(found(cut)), lambda: read(str(cut), 0, 1)):
        with pytest.raises(InputError, match=f"{cut}: corrupt, truncated or of another format"):
            use()


def test_a_file_that_is_gone_or_shorter_is_named(path: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent.parquet: no such file"):
        read(str(tmp_path / "absent.parquet"), 0, 1)
    with pytest.raises(InputError, match=r"in.parquet: has no rows 4990 to 5010"):
        read(path, 4990, 5010)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    twice = tmp_path / "twice.parquet"
    pq.write_table(pa.table([["a"], ["b"]], names=["prompt", "prompt"]), twice)
    with pytest.raises(InputError, match=r"twice.parquet: has two columns called 'prompt'"):
        ParquetReader(None).scan(found(twice))


def test_what_others_wrote_is_read(tmp_path: Path) -> None:
    import duckdb
    import pandas as pd

    duckdb.sql(
        f"COPY (SELECT 'a' || i AS prompt, {{'x': [i]}} AS s FROM range(3000) t(i)) "
        f"TO '{tmp_path}/duck.parquet' (ROW_GROUP_SIZE 2048)"
    )
    frame = pd.DataFrame({"prompt": ["a", None], "c": pd.Categorical(["x", "y"])}, index=[5, 6])
    frame.to_parquet(tmp_path / "pandas.parquet")
    for name, start, stop in (("duck", 2040, 2060), ("pandas", 1, 2)):
        path = f"{tmp_path}/{name}.parquet"
        oracle = pq.read_table(path)
        rows = read(path, start, stop, oracle.schema)
        assert rows.table.to_pylist() == oracle.slice(start, stop - start).to_pylist()


def test_a_local_file_is_read_by_arrow_without_the_interpreter(path: str) -> None:
    assert isinstance(arrow_file(path, None), pa.OSFile)


def test_it_is_read_from_every_store(place: Place, path: str) -> None:
    fs, folder = place.filesystem()
    fs.makedirs(folder, exist_ok=True)
    fs.put_file(path, f"{folder}/in.parquet")
    inputs = expand_inputs([place.url], "auto", place.storage_options)
    reader = ParquetReader(place.storage_options)
    assert reader.scan(inputs.files[0]).rows == ROWS
    rows = reader.read(file(inputs.files[0].path), 1400, 3100, table().schema)
    assert rows.table.equals(table().slice(1400, 1700))
