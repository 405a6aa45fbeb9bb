"""Ids that several rows have are told, the first ones by their places."""

import json
from pathlib import Path

import pytest

from rgpipeline.validation.repeated_ids import id_warnings
from tests.worker.planned_jobs import Given, plan_job

BY_NAME = {"prompt_ids": "ids", "id": "name"}


def job_over(folder: Path, names: list[object]) -> Given:
    return plan_job(folder, [{"ids": [1], "name": name} for name in names], columns=BY_NAME)


def test_rows_of_one_id_are_told_with_their_places(tmp_path: Path) -> None:
    given = job_over(tmp_path, ["a", "b", "a", "c", "c", "a"])
    (told,) = id_warnings(given.job, given.plan)
    assert told.startswith(
        "3 of all 6 rows have an id that an earlier row has: 'a' (in.jsonl, rows 0 and 2), "
        "'c' (in.jsonl, rows 3 and 4), 'a' (in.jsonl, rows 0 and 5); equal prompts get equal"
    )


def test_only_the_first_rows_are_looked_at(tmp_path: Path) -> None:
    given = job_over(tmp_path, ["a", "b", "b", "a"])
    (told,) = id_warnings(given.job, given.plan, rows=3)
    assert told.startswith("1 of the first 3 rows have an id that an earlier row has: 'b' ")


def test_they_may_lie_in_two_files(tmp_path: Path) -> None:
    for name in ("x.jsonl", "y.jsonl"):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_text(json.dumps({"ids": [1], "name": 7}) + "\n")
    given = plan_job(tmp_path, [], path=str(tmp_path / "in"), columns=BY_NAME)
    assert "'7' (x.jsonl, row 0; y.jsonl, row 0)" in next(id_warnings(given.job, given.plan))


@pytest.mark.parametrize("names", [["a", "b"], [None, None], [1, 2]])
def test_of_ids_that_differ_and_of_none_nothing_is_told(
    tmp_path: Path, names: list[object]
) -> None:
    given = job_over(tmp_path, ["x", *names])
    assert list(id_warnings(given.job, given.plan)) == []


def test_an_empty_id_is_told(tmp_path: Path) -> None:
    given = job_over(tmp_path, ["a", ""])
    assert list(id_warnings(given.job, given.plan)) == ["1 of all 2 rows have an empty text as id"]


def test_default_ids_are_not_looked_at(tmp_path: Path) -> None:
    given = plan_job(tmp_path, [{"ids": [1]}] * 2)
    (tmp_path / "in.jsonl").unlink()
    assert list(id_warnings(given.job, given.plan)) == []


def test_requests_of_a_batch_that_share_a_name_are_told(tmp_path: Path) -> None:
    rows = [{"custom_id": "r", "url": "/v1/completions", "body": {"prompt": [1]}}] * 2
    given = plan_job(tmp_path, rows, columns={}, format="openai-batch")
    assert "'r' (in.jsonl, rows 0 and 1)" in next(id_warnings(given.job, given.plan))
