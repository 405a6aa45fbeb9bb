"""Jobs over CSV and Arrow files: planned, cut into shards, and resumed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.ipc as ipc
import pytest

from rgpipeline.errors import InputError
from rgpipeline.plan import Plan, make_plan, open_or_create
from rgpipeline.storage.store import open_store
from tests.plan.jobs import job

COUNT = 3000
ROWS = pd.DataFrame(
    {
        "id": [f"{k:05d}" for k in range(COUNT)],
        "prompt": [f'Say "{k}",\nplease' for k in range(COUNT)],
        "note": [None if k % 3 else f"n{k}" for k in range(COUNT)],
    }
)


def _stream(path: Path) -> None:
    table = pa.Table.from_pandas(ROWS, preserve_index=False)
    with ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table, 100)


WRITE: dict[str, Callable[[Path], Any]] = {
    "a.csv": lambda path: ROWS.to_csv(path, index=False),
    "a.csv.gz": lambda path: ROWS.to_csv(path, index=False),
    "a.tsv.zst": lambda path: ROWS.to_csv(path, index=False, sep="\t"),
    "a.feather": lambda path: ROWS.to_feather(path),
    "a.arrow": _stream,
}


def rows_of(plan: Plan) -> list[dict[str, Any]]:
    """All rows, read shard by shard, with a new reader for each."""
    rows: list[dict[str, Any]] = []
    for shard in plan.shards:
        input = plan.read(shard)
        assert not input.faults
        kept = input.table.to_pylist()
        rows += [{**kept[k], **input.values(k)} for k in range(shard.rows)]
    return rows


@pytest.mark.parametrize("name", WRITE)
@pytest.mark.parametrize("workers", [1, 40])
def test_every_split_into_shards_gives_the_same_rows(
    tmp_path: Path, name: str, workers: int
) -> None:
    (tmp_path / "in").mkdir()
    WRITE[name](tmp_path / "in" / name)
    plan = make_plan(job(tmp_path, workers={"count": workers}))
    assert len(plan.shards) > 100
    expected = [
        {key: None if pd.isna(value) else value for key, value in row.items()}
        for row in ROWS.to_dict("records")
    ]
    assert rows_of(plan) == expected
    assert rows_of(Plan.from_json(plan.to_json())) == expected


@pytest.mark.parametrize("name", ["a.csv", "a.arrow"])
def test_a_job_is_resumed_by_its_plan(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    WRITE[name](tmp_path / "in" / name)
    resumable = job(tmp_path)
    store = open_store(resumable.output.path)
    first = open_or_create(resumable, store)
    again = open_or_create(resumable, store)
    assert again.files[0].marks == first.files[0].marks != ()
    assert again.fingerprint == first.fingerprint


def test_chats_and_sampling_may_be_json_text_in_a_csv_file(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text('chat,how\n"[{""role"": ""user"", ""content"": ""Hi""}]","{""n"": 2}"\n')
    columns = {"messages": "chat", "sampling": "how"}
    plan = make_plan(job(tmp_path, str(path), input={"columns": columns}))
    assert rows_of(plan)[0]["how"] == '{"n": 2}'


def test_a_column_that_parquet_cannot_hold_is_refused_where_it_is_kept(tmp_path: Path) -> None:
    table = pa.table({"prompt": ["a"], "u": pa.nulls(1, pa.month_day_nano_interval())})
    path = tmp_path / "in.arrow"
    with ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(InputError, match=r"'u' holds month_day_nano_interval.*output\.keep"):
        make_plan(job(tmp_path, str(path)))
    assert make_plan(job(tmp_path, str(path), output={"keep": ["prompt"]})).rows == 1
