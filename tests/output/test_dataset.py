"""The output folder is plain Parquet: whatever reads a folder of it reads the same rows."""

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rgpipeline.errors import OutputError
from rgpipeline.output import open_output
from rgpipeline.plan import open_or_create
from rgpipeline.records import OutputRow
from rgpipeline.storage.store import open_store
from tests.published import done, failed, job_over, publish
from tests.storage.servers import Place

ROWS = [
    {"prompt": f"prompt {k}", "tags": [f"t{k}"], "nested": {"a": k, "b": None}} for k in range(40)
]


def answer(number: int, values: Any) -> Any:
    if number == 7:
        return [failed(f"row-{number}")]
    if number == 8:
        return [
            done("row-8", "first ", 5, segment=0, finish_reason=None),
            done("row-8", "second", 4, segment=1),
        ]
    return [done(f"row-{number}", f"text of {values['prompt']}", number)]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    return publish(job_over(tmp_path_factory.mktemp("out"), ROWS), answer)


@pytest.fixture(scope="module")
def expected(output: str) -> list[dict[str, Any]]:
    """Every part by itself, one after the other."""
    parts = sorted(Path(output).glob("part-*.parquet"))
    assert len(parts) == 3
    return [row for part in parts for row in pq.ParquetFile(part).read().to_pylist()]


def test_every_row_is_there_with_its_input_and_answer(expected: list[dict[str, Any]]) -> None:
    assert len(expected) == 41
    assert expected[0] == ROWS[0] | {
        "id": "row-0",
        "sample": 0,
        "segment": 0,
        "completion": "text of prompt 0",
        "finish_reason": "stop",
        "prompt_tokens": 2,
        "completion_tokens": 0,
        "error": None,
    }


def test_open_output_reads_it(output: str, expected: list[dict[str, Any]]) -> None:
    assert open_output(output).to_table().to_pylist() == expected


def test_embeddings_have_one_type_though_all_rows_of_a_part_failed(tmp_path: Path) -> None:
    def answer(number: int, _: Any) -> list[OutputRow]:
        vector = np.arange(3, dtype=np.float32) + number
        return [done(str(number), result=vector) if number > 20 else failed(str(number))]

    output = publish(job_over(tmp_path, ROWS, task="embed"), answer)
    table = open_output(output).to_table()
    assert table["embedding"].type == pa.list_(pa.float32(), 3)
    assert pq.ParquetFile(Path(output) / "part-00000-0000.parquet").read()["embedding"].null_count
    vectors = [None] * 21 + [[n, n + 1, n + 2] for n in range(21, 40)]
    assert table["embedding"].to_pylist() == pq.read_table(output)["embedding"].to_pylist()
    assert table["embedding"].to_pylist() == vectors
    ((total,),) = duckdb.sql(f"SELECT sum(embedding[3]) FROM '{output}/*.parquet'").fetchall()
    assert total == sum(range(23, 42))


def test_pyarrow_reads_the_folder(output: str, expected: list[dict[str, Any]]) -> None:
    assert pq.read_table(output).to_pylist() == expected


def test_pandas_reads_the_folder(output: str, expected: list[dict[str, Any]]) -> None:
    frame = pd.read_parquet(output, dtype_backend="pyarrow")
    assert pa.Table.from_pandas(frame, preserve_index=False).to_pylist() == expected


def test_duckdb_reads_the_folder(output: str, expected: list[dict[str, Any]]) -> None:
    found = duckdb.sql(f"SELECT * FROM '{output}/*.parquet' ORDER BY filename, file_row_number")
    columns = [name for name in found.columns if name not in ("filename", "file_row_number")]
    rows = [dict(zip(found.columns, values, strict=True)) for values in found.fetchall()]
    assert [{name: row[name] for name in columns} for row in rows] == expected


def test_polars_reads_the_parts(output: str, expected: list[dict[str, Any]]) -> None:
    assert polars.read_parquet(f"{output}/part-*.parquet").to_dicts() == expected
    assert polars.scan_parquet(f"{output}/part-*.parquet").collect().to_dicts() == expected


def test_columns_are_read_by_name_and_filtered(output: str) -> None:
    import pyarrow.dataset as ds

    table = open_output(output).to_table(columns=["id"], filter=ds.field("error").is_valid())
    assert table.to_pylist() == [{"id": "row-7"}]


def test_before_anything_is_published_there_are_columns_and_no_rows(tmp_path: Path) -> None:
    job = job_over(tmp_path, ROWS)
    open_or_create(job, open_store(job.output.path))
    table = open_output(job.output.path).to_table()
    assert table.num_rows == 0
    assert table.column_names[:4] == ["prompt", "tags", "nested", "id"]


def test_what_is_half_written_is_not_seen(tmp_path: Path) -> None:
    job = job_over(tmp_path, ROWS)
    output = publish(job, answer, success=False)
    (Path(output) / ".0123.tmp").write_bytes(b"PAR1 half a part")
    (Path(output) / "_rgp" / "state").mkdir()
    (Path(output) / "_rgp" / "state" / "x.safetensors").write_bytes(b"")
    assert open_output(output).count_rows() == pq.read_table(output).num_rows == 41
    assert duckdb.sql(f"SELECT count(*) FROM '{output}/*.parquet'").fetchall() == [(41,)]


@pytest.mark.parametrize("url", ["{tmp}", "{tmp}/absent", "s3://test/nothing-here"])
def test_a_folder_that_is_no_output_is_named(tmp_path: Path, url: str, moto_server: Place) -> None:
    place = url.format(tmp=tmp_path)
    with pytest.raises(OutputError, match=f"{place}: not the output of a job"):
        open_output(place, moto_server.storage_options)


DICTIONARIES = [pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int32(), pa.string())]


@pytest.mark.parametrize("kind", [*DICTIONARIES, pa.large_string(), pa.null()])
def test_types_that_come_in_kinds_are_read_alike(tmp_path: Path, kind: pa.DataType) -> None:
    values = [None] * 40 if kind == pa.null() else [f"v{k % 3}" for k in range(40)]
    job = job_over(tmp_path, ROWS)
    table = pq.read_table(job.input.path[0]).append_column("kept", pa.array(values).cast(kind))
    pq.write_table(table, job.input.path[0])
    output = publish(job, answer)
    found = open_output(output).to_table()
    assert found.schema.field("kept").type == pq.read_schema(job.input.path[0]).field("kept").type
    assert pq.read_table(output).column("kept").to_pylist() == found.column("kept").to_pylist()
    assert found.column("kept").to_pylist()[:3] == values[:3]


def test_it_is_read_from_every_store(place: Place, tmp_path: Path) -> None:
    job = job_over(
        tmp_path, ROWS, output={"path": place.url}, storage_options=place.storage_options
    )
    found = open_output(publish(job, answer), place.storage_options).to_table()
    assert found.num_rows == 41
    assert found.column("id").to_pylist()[:8] == [f"row-{k}" for k in range(8)]
