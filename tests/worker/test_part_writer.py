"""Rows to parts: a row that no part can hold is published as an error, and others as they are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import rgpipeline.worker.part_writer as part_writer
from rgpipeline.io.log import ShardLog
from rgpipeline.records import OutputRow
from rgpipeline.worker.part_writer import PartWriter, ShardOutput
from tests.worker.planned_jobs import Given, finish, plan_job

ROWS = [{"ids": [1, 2], "word": f"w{n}"} for n in range(8)]


def answered(number: int, **fields: Any) -> OutputRow:
    values = {"completion": f"text {number}", "finish_reason": "stop", "completion_tokens": 3}
    return OutputRow(number, f"n{number}", **(values | fields))


def published(given: Given, rows: Sequence[OutputRow]) -> list[dict[str, Any]]:
    """What is in the output once `rows` were appended, by id."""
    shard = given.plan.shards[0]
    output = ShardOutput(ShardLog(given.store, shard.index), 0.0, given.plan.read(shard))
    PartWriter(given.job, given.plan, "a").append(output, rows)
    return pq.read_table(given.out).sort_by("id").to_pylist()


@pytest.fixture
def given(tmp_path: Path) -> Given:
    return plan_job(tmp_path, ROWS, shard_rows=8)


def test_a_row_that_cannot_be_written_fails_alone(given: Given) -> None:
    rows = published(given, [answered(n, completion="\ud800" if n == 5 else "x") for n in range(8)])
    assert [row["error"] is not None for row in rows] == [n == 5 for n in range(8)]
    assert (rows[5]["word"], rows[5]["completion"]) == ("w5", None)
    assert rows[5]["error"].startswith("in.jsonl, row 5: its output can't be written (Unicode")
    assert len(given.parts()) == 1


def test_kept_columns_that_cannot_be_written_are_null(
    given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = part_writer.build_part

    def building(kept: pa.Table, *rest: Any) -> bytes:
        if {"w2", "w3"} & set(kept.column("word").to_pylist()):
            raise pa.ArrowInvalid("no such word")
        return build(kept, *rest)

    monkeypatch.setattr(part_writer, "build_part", building)
    rows = published(given, [answered(n) for n in range(8)])
    assert [row["word"] for row in rows] == ["w0", "w1", None, None, "w4", "w5", "w6", "w7"]
    assert "no such word" in rows[3]["error"]
    assert rows[4]["completion"] == "text 4"


def test_rows_too_large_for_one_part_together_are_published_in_several(
    given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = part_writer.build_part

    def building(kept: pa.Table, rows: Sequence[OutputRow], *rest: Any) -> bytes:
        if len(rows) > 2:
            raise pa.ArrowInvalid("offset overflow")
        return build(kept, rows, *rest)

    monkeypatch.setattr(part_writer, "build_part", building)
    rows = published(given, [answered(n) for n in range(8)])
    assert [row["completion"] for row in rows] == [f"text {n}" for n in range(8)]
    assert len(given.parts()) == 4


def test_what_nothing_can_be_built_for_is_raised_as_it_is(
    given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    def building(*_: Any) -> bytes:
        raise pa.ArrowInvalid("always")

    monkeypatch.setattr(part_writer, "build_part", building)
    with pytest.raises(pa.ArrowInvalid, match="always"):
        published(given, [answered(0), answered(1)])


def test_segments_after_one_that_cannot_be_written_are_left_out(given: Given) -> None:
    goes_on = answered(0, finish_reason=None, final=False, completion="\udfff")
    (row,) = published(given, [goes_on, answered(0, segment=1)])
    assert (row["segment"], row["finish_reason"]) == (0, "error")


def test_a_file_whose_name_is_no_utf_8_names_its_rows_by_a_spelled_out_one(tmp_path: Path) -> None:
    for odd in (b"caf\xe8", b"caf\xe9"):
        name = tmp_path / "in" / (odd.decode("utf-8", "surrogateescape") + ".jsonl")
        name.parent.mkdir(exist_ok=True)
        name.write_text('{"ids": [1, 2]}\n{"ids": []}\n')
    given = plan_job(tmp_path, [], path=str(tmp_path / "in"))
    report = finish(given.worker(), given.assignments)
    rows = pq.read_table(given.out).sort_by("id").to_pylist()
    stems = ("caf\\udce8.jsonl", "caf\\udce9.jsonl")
    assert [row["id"] for row in rows] == [f"{stem}#{n}" for stem in stems for n in (0, 1)]
    assert rows[1]["error"].startswith("caf\\udce8.jsonl, row 1: ")
    assert (report.rows_done, report.rows_failed, report.error) == (2, 2, None)


def test_a_folder_whose_name_is_no_utf_8_is_a_partition_by_a_spelled_out_one(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "in" / b"kind=caf\xe9".decode("utf-8", "surrogateescape")
    folder.mkdir(parents=True)
    (folder / "a.jsonl").write_text('{"ids": [1, 2]}\n')
    given = plan_job(tmp_path, [], path=str(tmp_path / "in"))
    finish(given.worker(), given.assignments)
    assert pq.read_table(given.out).column("kind").to_pylist() == ["caf\\udce9"]


def test_a_key_with_half_a_surrogate_is_a_column_by_a_spelled_out_name(tmp_path: Path) -> None:
    given = plan_job(tmp_path, [{"ids": [1, 2], "k\ud800": 7}, {"ids": [1, 3], "k\ud800": 8}])
    finish(given.worker(), given.assignments)
    assert [row["k\\ud800"] for row in given.rows()] == [7, 8]
