"""A shard's rows: from several files, with partitions, and with what has gone wrong since."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from rgpipeline.io.input_files import current_version
from rgpipeline.io.parquet import ParquetReader
from rgpipeline.io.shard_rows import InputRows, partition_fields, partition_values, read_shard
from rgpipeline.records import InputFile, Shard, Span

SCHEMA = pa.schema([("prompt", pa.string())])


def parquet(path: Path, prompts: list[str], **columns: list[Any]) -> InputFile:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"prompt": prompts, **columns}), path)
    return InputFile(str(path), path.name, *current_version(str(path), None), len(prompts))


def read(files: list[InputFile], *spans: tuple[int, int, int], **options: Any) -> InputRows:
    shard = Shard(0, tuple(Span(*span) for span in spans))
    return read_shard(files, shard, ParquetReader(None), options.pop("schema", SCHEMA), **options)


@pytest.fixture
def files(tmp_path: Path) -> list[InputFile]:
    return [
        parquet(tmp_path / f"{name}.parquet", [f"{name}{k}" for k in range(5)]) for name in "ab"
    ]


def test_rows_of_several_files_are_one_table(files: list[InputFile]) -> None:
    rows = read(files, (0, 3, 5), (1, 0, 1))
    assert rows.table.column("prompt").to_pylist() == ["a3", "a4", "b0"]
    assert [rows.default_id(k) for k in range(3)] == ["a.parquet#3", "a.parquet#4", "b.parquet#0"]
    assert rows.origin(2) == ("b.parquet", 0)


def test_a_file_that_changed_costs_its_own_rows_and_is_named(files: list[InputFile]) -> None:
    Path(files[0].path).write_bytes(b"something else")
    rows = read(files, (0, 3, 5), (1, 0, 1))
    assert rows.table.column("prompt").to_pylist() == [None, None, "b0"]
    fault = f"{files[0].path}: changed since the job began; put it back as it was, or start a new"
    assert [rows.faults[k].startswith(fault) for k in (0, 1)] == [True, True]
    assert len(rows.faults) == 2


def test_a_file_written_again_with_the_same_size_has_changed(files: list[InputFile]) -> None:
    path = Path(files[0].path)
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(1, 1))
    assert "changed since the job began" in read(files, (0, 0, 1)).faults[0]


def test_a_file_that_is_gone_costs_its_own_rows_and_is_named(files: list[InputFile]) -> None:
    Path(files[1].path).unlink()
    assert read(files, (0, 4, 5), (1, 0, 1)).faults == {1: f"{files[1].path}: no such file"}


def test_partition_columns_are_what_pyarrow_finds(tmp_path: Path) -> None:
    parquet(tmp_path / "year=2024/lang=de%20x/a.parquet", ["p"])
    parquet(tmp_path / "year=2025/lang=__HIVE_DEFAULT_PARTITION__/a.parquet", ["q"])
    paths = sorted(map(str, tmp_path.rglob("*.parquet")))
    files = [InputFile(path, path, *current_version(path, None), 1) for path in paths]
    partitions = partition_fields(paths)
    schema = pa.schema([*SCHEMA, *partitions])
    names = [field.name for field in partitions]
    found = read(files, (0, 0, 1), (1, 0, 1), schema=schema, partitions=names).table
    oracle = ds.dataset(tmp_path, partitioning="hive").to_table().sort_by("prompt")
    assert found.to_pylist() == oracle.to_pylist()


def test_partitions_are_whole_numbers_only_where_all_are() -> None:
    paths = ["/d/n=1/s=1/a", "/d/n=-20/s=x/a", "/d/n=__HIVE_DEFAULT_PARTITION__/s=2/a"]
    assert pa.schema(partition_fields(paths)) == pa.schema([("n", pa.int64()), ("s", pa.string())])


@pytest.mark.parametrize(
    "value", ["01234", "+5", "1_000", "1e3", " 5", "-0", "٣", "9223372036854775808", "1.0"]
)
def test_a_partition_that_is_not_written_as_a_number_is_stays_text(value: str) -> None:
    fields = partition_fields([f"d/zip={value}/a", "d/zip=7/a"])
    assert pa.schema(fields) == pa.schema([("zip", pa.string())])
    assert partition_values(f"d/zip={value}/a") == {"zip": value}


def test_a_partition_may_be_any_int64() -> None:
    values = [2**63 - 1, -(2**63), 0]
    (field,) = partition_fields([f"n={value}/a" for value in values])
    assert field.type == pa.int64()


def test_a_files_own_name_is_no_partition() -> None:
    assert partition_values("/d/a=1/b=2.parquet") == {"a": "1"}
