"""The failed rows of a job, as a job of their own."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rgpipeline.cli.app import call
from rgpipeline.errors import InputError, OutputError
from rgpipeline.jobfile import parse_job
from rgpipeline.output.retry_job import Retry, prepare_retry
from rgpipeline.plan import make_plan
from rgpipeline.records import OutputRow
from rgpipeline.spec import Job
from rgpipeline.storage.store import open_store
from tests.published import done, failed, job_over, publish

BAD = (3, 17, 18)  # in two shards of sixteen rows
ROWS = [{"name": f"n{i}", "text": f"text {i}", "n": i} for i in range(20)]
COLUMNS = {"columns": {"prompt": "text", "id": "name"}}


def answer(number: int, row: Mapping[str, Any]) -> Sequence[OutputRow]:
    name = row.get("name") or f"input.parquet#{number}"
    return [failed(name) if number in BAD else done(name)]


def retried(job: Job, **options: Any) -> tuple[Retry, list[dict[str, Any]]]:
    """What `prepare_retry` makes of a job, and the rows of its input."""
    new = str(Path(job.output.path).parent / "again")
    prepared = prepare_retry(job.output.path, new, **options)
    assert prepared is not None
    plan = make_plan(prepared.job)
    input = plan.read(plan.shards[0])
    kept = input.table.to_pylist() or [{}] * plan.rows
    return prepared, [{**row, **input.values(number)} for number, row in enumerate(kept)]


def test_just_the_failed_rows(tmp_path: Path) -> None:
    job = job_over(tmp_path, ROWS, input=COLUMNS)
    publish(job, answer)
    prepared, rows = retried(job)
    assert prepared.rows == 3
    assert [row["name"] for row in rows] == ["n3", "n17", "n18"]


def test_the_output_has_the_same_columns(tmp_path: Path) -> None:
    job = job_over(tmp_path, ROWS, input=COLUMNS, output={"keep": ["n"]})
    publish(job, answer)
    prepared, _ = retried(job)
    assert make_plan(prepared.job).kept == ("n",)


def test_rows_that_go_by_their_place_keep_that_name(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}"} for i in range(20)]
    job = job_over(tmp_path, rows, input={"columns": {"prompt": "text"}})
    publish(job, answer)
    prepared, rows = retried(job)
    named = prepared.job.input.columns.id
    assert named is not None
    assert [row[named] for row in rows] == [f"input.parquet#{i}" for i in BAD]
    assert make_plan(prepared.job).kept == ("text",)


def test_rows_named_by_a_column_called_id_keep_their_names(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "id": None if i == 17 else f"i{i}"} for i in range(20)]
    job = job_over(tmp_path, rows, input={"columns": {"prompt": "text"}})
    publish(job, lambda n, row: [failed(row["id"] or f"input.parquet#{n}")] if n in BAD else [])
    prepared, found = retried(job)
    names = ["i3", "input.parquet#17", "i18"]
    assert [row[prepared.job.input.columns.id or ""] for row in found] == names
    assert make_plan(prepared.job).kept == ("text",)


def test_rows_are_read_from_the_input_as_it_is_now(tmp_path: Path) -> None:
    job = job_over(tmp_path, ROWS, input=COLUMNS)
    publish(job, answer)
    mended = [{**row, "text": row["text"].upper()} for row in ROWS]
    pq.write_table(pa.Table.from_pylist(mended), tmp_path / "input.parquet")
    assert [row["text"] for row in retried(job)[1]] == ["TEXT 3", "TEXT 17", "TEXT 18"]


def test_values_of_mixed_types_are_those_of_the_input(tmp_path: Path) -> None:
    values = [5, "a\n", 0.5, [1], 2**64, None, {"stop": None}]
    lines = "".join(json.dumps({"text": value}) + "\n" for value in [*values, "x"])
    (tmp_path / "input.jsonl").write_text(lines)
    facts = {"path": str(tmp_path / "input.jsonl"), "columns": {"prompt": "text"}}
    job = job_over(tmp_path, ROWS, input=facts)
    publish(job, lambda number, row: [failed(f"input.jsonl#{number}")] if number < 7 else [])
    before = make_plan(job)
    prepared, rows = retried(job)
    assert [row["text"] for row in rows] == values
    assert make_plan(prepared.job).schema.types == before.schema.types


def test_sampling_and_the_rest_stay_but_for_overrides(tmp_path: Path) -> None:
    job = job_over(tmp_path, ROWS, input=COLUMNS, sampling={"seed": 5, "max_tokens": 9})
    publish(job, answer)
    prepared, _ = retried(job, overrides=["sampling.max_tokens=99"])
    assert prepared.job.sampling.seed == 5
    assert prepared.job.sampling.max_tokens == 99


def test_again_is_the_same_job(tmp_path: Path) -> None:
    job = job_over(tmp_path, ROWS, input=COLUMNS)
    publish(job, answer)
    first, _ = retried(job)
    (tmp_path / "input.parquet").unlink()
    assert retried(job)[0] == first


def test_no_failed_rows_is_nothing_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = job_over(tmp_path, ROWS, input=COLUMNS)
    publish(job, lambda number, row: [done(row["name"])])
    assert call(["retry", job.output.path, "--output", str(tmp_path / "again")]) == 0
    assert "no failed rows" in capsys.readouterr().out
    assert not (tmp_path / "again").exists()


def test_a_row_that_still_cannot_be_read_is_left_out_and_told(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "a"}\nnot json\n{"text": null}\n')
    job = _lines_job(tmp_path, path)
    publish(job, lambda number, row: [done("x") if number == 0 else failed(f"in.jsonl#{number}")])
    prepared, rows = retried(job)
    assert [row["rgp_id"] for row in rows] == ["in.jsonl#2"]
    assert "not JSON" in prepared.left_out[0]


def test_when_none_can_be_read_that_is_said(tmp_path: Path) -> None:
    job = job_over(tmp_path, ROWS, input=COLUMNS)
    publish(job, answer)
    pq.write_table(pa.Table.from_pylist(ROWS[:2]), tmp_path / "input.parquet")
    with pytest.raises(InputError, match="none of the failed rows can be read"):
        retried(job)


def test_an_output_of_something_else_is_refused(tmp_path: Path) -> None:
    job = job_over(tmp_path, ROWS, input=COLUMNS)
    publish(job, answer)
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "thesis.doc").touch()
    with pytest.raises(OutputError, match=r"not empty \(it holds thesis.doc\)"):
        retried(job)


def test_an_output_of_another_retry_is_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        publish(job_over(tmp_path / name, ROWS, input=COLUMNS), answer)
    new = str(tmp_path / "again")
    prepare_retry(str(tmp_path / "one" / "out"), new)
    with pytest.raises(OutputError, match="holds a retry of"):
        prepare_retry(str(tmp_path / "two" / "out"), new)


def test_requests_of_a_batch_stay_as_they_were_written(tmp_path: Path) -> None:
    body = {"model": "m", "prompt": "x", "max_tokens": 5}
    lines = [
        json.dumps({"custom_id": f"c{i}", "method": "POST", "url": "/v1/completions", "body": body})
        for i in range(4)
    ]
    path = tmp_path / "in.jsonl"
    path.write_text("\n".join(lines) + "\n")
    job = _lines_job(tmp_path, path, format="openai-batch")
    publish(job, lambda number, row: [failed(f"c{number}") if number % 2 else done(f"c{number}")])
    prepared, rows = retried(job)
    assert [row["custom_id"] for row in rows] == ["c1", "c3"]
    store = open_store(prepared.job.output.path)
    assert store.read("_rgp/retry.jsonl").decode().splitlines() == [lines[1], lines[3]]


def test_columns_of_text_views_are_taken_along(tmp_path: Path) -> None:
    job = job_over(tmp_path, ROWS, input=COLUMNS)
    table = pq.read_table(job.input.path[0])
    views = table.set_column(1, "text", table["text"].cast(pa.string_view()))
    pq.write_table(views, job.input.path[0])
    publish(job, answer)
    assert [row["text"] for row in retried(job)[1]] == ["text 3", "text 17", "text 18"]


def _lines_job(folder: Path, path: Path, **input: Any) -> Job:
    columns = {} if input else {"columns": {"prompt": "text"}}
    mapping = {
        "model": {"weights": "demo"},
        "input": {"path": str(path), **columns, **input},
        "output": {"path": str(folder / "out")},
    }
    return parse_job(mapping, "job")
