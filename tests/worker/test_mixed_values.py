"""Rows of mixed JSON types and Parquet types, done by a worker: good rows as if they were alone."""

from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

from tests.worker.planned_jobs import Given, finish, plan_job

GOOD = {"ids": [1, 2]}


def outputs(given: Given) -> list[dict[str, Any]]:
    """What is published, in the order of the input."""
    report = finish(given.worker(), given.assignments)
    assert report.error is None
    return given.rows()


def done(rows: list[dict[str, Any]]) -> list[Any]:
    return [row["completion_ids"] for row in rows]


def texts(tmp_path: Path, values: list[Any], role: str = "prompt") -> list[dict[str, Any]]:
    rows = [{"value": value} for value in values]
    template = "{value}" if role == "template" else None
    columns = {} if role == "template" else {role: "value"}
    return outputs(plan_job(tmp_path, rows, columns=columns, template=template))


@pytest.mark.parametrize("bad", [5, 0.5, True, ["a"], {"a": 1}])
def test_a_prompt_that_is_no_text_fails_alone(tmp_path: Path, bad: Any) -> None:
    alone = texts(tmp_path / "alone", ["ab a", "c\nb"])
    beside = texts(tmp_path / "beside", ["ab a", bad, "c\nb"])
    assert done([beside[0], beside[2]]) == done(alone)
    assert beside[1]["error"].endswith("text is needed")


@pytest.mark.parametrize("neighbours", [[], [0.5], ["a"], [[1]], [2**70, {"a": 1}]])
def test_a_template_renders_a_row_the_same_beside_any_other(
    tmp_path: Path, neighbours: list[Any]
) -> None:
    values = ["ab", 5, 2**64]
    expected = texts(tmp_path / "text", ["ab", "5", str(2**64)])
    found = texts(tmp_path / "mixed", [*values, *neighbours], "template")
    assert done(found[:3]) == done(expected)


@pytest.mark.parametrize(
    ("value", "id"),
    [(5, "5"), ("x", "x"), (5.0, "5"), (2**63 + 1, str(2**63 + 1)), ("5.0", "5.0")],
)
@pytest.mark.parametrize("neighbour", ["y", 7, 0.25, [1], None])
def test_an_id_is_the_same_beside_any_other(
    tmp_path: Path, value: Any, id: str, neighbour: Any
) -> None:
    rows = [{**GOOD, "key": value}, {**GOOD, "key": neighbour}]
    given = plan_job(tmp_path, rows, columns={"prompt_ids": "ids", "id": "key"})
    assert outputs(given)[0]["id"] == id


@pytest.mark.parametrize("bad", [True, 0.5, [1], {"a": 1}, 1e300])
def test_what_can_name_no_row_fails_alone(tmp_path: Path, bad: Any) -> None:
    rows = [{**GOOD, "key": "a"}, {**GOOD, "key": bad}]
    found = outputs(plan_job(tmp_path, rows, columns={"prompt_ids": "ids", "id": "key"}))
    assert [row["error"] is None for row in found] == [True, False]
    assert "'key', which names the rows, holds" in found[1]["error"]


@pytest.mark.parametrize("bad", [5, "1 2", {"a": 1}, [1, "a"], [0.5], [None], [[1]]])
def test_token_ids_that_are_none_fail_alone(tmp_path: Path, bad: Any) -> None:
    found = outputs(plan_job(tmp_path, [GOOD, {"ids": bad}, GOOD]))
    assert [row["error"] is None for row in found] == [True, False, True]
    alone = outputs(plan_job(tmp_path / "alone", [GOOD]))
    assert done([found[0], found[2]]) == done(alone) * 2


@pytest.mark.parametrize(
    "other", [{"max_tokens": 2, "stop": ["b"]}, '{"max_tokens": 2}', 5, {"logit_bias": {"3": -1}}]
)
def test_a_rows_sampling_is_its_own(tmp_path: Path, other: Any) -> None:
    own = {"max_tokens": 3, "stop": None, "logit_bias": {"7": 0.0}}
    rows = [{**GOOD, "s": own}, {**GOOD, "s": other}]
    given = plan_job(tmp_path, rows, columns={"prompt_ids": "ids", "sampling": "s"})
    found = outputs(given)
    assert (found[0]["completion_ids"], found[0]["error"]) == ([3, 6, 2], None)


@pytest.mark.parametrize(
    ("column", "id"),
    [
        (pa.array([UUID(int=1).bytes], pa.uuid()), str(UUID(int=1))),
        (pa.array([date(2024, 1, 2)]), "2024-01-02"),
        (pa.array([b"row-1"]), "row-1"),
        (pa.array([b"\xff\x00"], pa.binary(2)), "ff00"),
        (pa.array([7.0], pa.float32()), "7"),
        (pa.array(["x"]).dictionary_encode(), "x"),
        (pa.array(['"x"'], pa.json_()), "x"),
        (pa.array([1_000_000_001], pa.timestamp("ns")), "1970-01-01 00:00:01.000000001"),
    ],
)
def test_an_id_of_any_type_is_text(tmp_path: Path, column: pa.Array, id: str) -> None:
    table = pa.table({"n": [0], "ids": [[1, 2]], "key": column})
    given = plan_job(tmp_path, table, columns={"prompt_ids": "ids", "id": "key"})
    assert outputs(given)[0]["id"] == id
