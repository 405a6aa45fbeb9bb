"""Columns of several files: one type for those that are kept, each row's own for those used."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from rgpipeline.errors import InputError
from rgpipeline.plan import Plan, make_plan
from tests.plan.jobs import job, write_input

BIG = 2**53 + 1


def jsonl(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    path = folder / "in" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def kept(plan: Plan, name: str) -> list[Any]:
    found: list[Any] = plan.read(plan.shards[0]).table.column(name).to_pylist()
    return found


def used(plan: Plan) -> list[dict[str, Any]]:
    input = plan.read(plan.shards[0])
    return [input.values(row) for row in range(plan.rows)]


def test_a_json_text_stays_as_it_is_whatever_other_rows_and_files_hold(tmp_path: Path) -> None:
    jsonl(tmp_path, "a.jsonl", [{"prompt": "In\n"}, {"prompt": 5}, {"prompt": ["x"]}])
    jsonl(tmp_path, "b.jsonl", [{"prompt": 0.5}])
    plan = make_plan(job(tmp_path))
    assert [row["prompt"] for row in used(plan)] == ["In\n", 5, ["x"], 0.5]
    assert kept(plan, "prompt") == ['"In\\n"', "5", '["x"]', "0.5"]


def test_half_a_surrogate_in_a_nested_key_fails_its_row_alone(tmp_path: Path) -> None:
    jsonl(
        tmp_path, "a.jsonl", [{"prompt": "x", "k": {"\ud800": 1}}, {"prompt": "y", "k": {"a": 1}}]
    )
    plan = make_plan(job(tmp_path))
    input = plan.read(plan.shards[0])
    assert (list(input.faults), kept(plan, "k")) == ([0], [None, '{"a": 1}'])


def test_an_object_has_the_keys_of_its_own_row(tmp_path: Path) -> None:
    rows = [{"stop": None, "logit_bias": {"5": 1}}, {"stop": ["a"], "logit_bias": {"7": 1}}]
    jsonl(tmp_path, "a.jsonl", [{"prompt": "x", "s": row} for row in rows])
    plan = make_plan(job(tmp_path, input={"columns": {"prompt": "prompt", "sampling": "s"}}))
    assert [row["s"] for row in used(plan)] == rows


@pytest.mark.parametrize(
    ("role", "values", "told"),
    [
        ("prompt", [5, None], "holds int64; text is needed"),
        ("prompt", [5, [1]], "holds JSON values of several types; text is needed"),
        ("prompt_ids", [["a"], 5], "a list of token ids is needed"),
        ("messages", [[1], {}], "a list of messages"),
        ("id", [True, []], "text, a whole number"),
        ("sampling", [[], 1], "a struct, a map or a JSON text"),
    ],
)
def test_a_json_column_without_one_value_that_can_be_used_is_named(
    tmp_path: Path, role: str, values: list[Any], told: str
) -> None:
    jsonl(tmp_path, "a.jsonl", [{"c": value, "prompt": "x"} for value in values])
    columns = {"prompt": "prompt"} if role in ("id", "sampling") else {}
    with pytest.raises(InputError, match=rf"input.columns.{role}: column 'c' .*{told}"):
        make_plan(job(tmp_path, input={"columns": {**columns, role: "c"}}))


@pytest.mark.parametrize(
    ("role", "values"),
    [
        ("prompt", [5, "a"]),
        ("prompt_ids", [[1], [2.5], ["a"], 5]),
        ("messages", [[{"role": "user"}], 5]),
        ("id", [True, 5.0]),
        ("sampling", [{}, 1]),
        ("prompt", [None]),
    ],
)
def test_one_json_value_that_can_be_used_is_enough(
    tmp_path: Path, role: str, values: list[Any]
) -> None:
    jsonl(tmp_path, "a.jsonl", [{"c": value, "prompt": "x"} for value in values])
    columns = {"prompt": "prompt"} if role in ("id", "sampling") else {}
    plan = make_plan(job(tmp_path, input={"columns": {**columns, role: "c"}}))
    assert [row["c"] for row in used(plan)] == values


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pa.array([bytes(16)], pa.uuid()), "uuid"),
        (pa.array([0], pa.date32()), "date"),
        (pa.array([0], pa.timestamp("ns")), "timestamp"),
        (pa.array([b"a"]), "binary"),
        (pa.array([Decimal("1.5")]), "decimal"),
        (pa.array([5.0]), "double"),
        (pa.array(['"a"'], pa.json_()), "json"),
        (pa.array([5], pa.uint64()).dictionary_encode(), "dictionary"),
    ],
)
def test_every_type_with_one_spelling_can_be_an_id(
    tmp_path: Path, column: pa.Array, kind: str
) -> None:
    write_input(tmp_path, "a.parquet", {"prompt": ["x"], "key": column})
    plan = make_plan(job(tmp_path, input={"columns": {"prompt": "prompt", "id": "key"}}))
    assert kept(plan, "key") == column.to_pylist(), kind


def test_used_columns_that_are_not_kept_have_no_type_in_common(tmp_path: Path) -> None:
    kinds = {"a": pa.int64(), "b": pa.float64(), "c": pa.string()}
    for name, kind in kinds.items():
        column = pa.array([5]).cast(kind)
        write_input(tmp_path, f"{name}.parquet", {"prompt": ["x"], "key": column})
    columns = {"prompt": "prompt", "id": "key"}
    plan = make_plan(job(tmp_path, input={"columns": columns}, output={"keep": []}))
    assert [row["key"] for row in used(plan)] == [5, 5.0, "5"]


def test_columns_that_nobody_uses_or_keeps_may_disagree(tmp_path: Path) -> None:
    write_input(tmp_path, "a.parquet", {"prompt": ["x"], "n": [1]})
    write_input(tmp_path, "b.parquet", {"prompt": ["x"], "n": [{"a": "b"}]})
    plan = make_plan(job(tmp_path, output={"keep": ["prompt"]}))
    assert plan.schema.names == ["prompt"]


def test_a_parquet_file_whose_prompts_are_no_text_is_named(tmp_path: Path) -> None:
    write_input(tmp_path, "a.parquet", {"prompt": ["x"]})
    write_input(tmp_path, "b.parquet", {"prompt": [5]})
    told = r"column 'prompt' holds int64; text is needed \(in .*b.parquet\)"
    with pytest.raises(InputError, match=told):
        make_plan(job(tmp_path))


@pytest.mark.parametrize(
    ("whole", "fraction"),
    [
        (pa.array([1, None]), pa.array([2.5])),
        (pa.array([1, None], pa.uint64()), pa.array([2.5])),
        (pa.array([[1], []]), pa.array([[2.5]])),
        (pa.array([{"a": 1}, None]), pa.array([{"a": 2.5}])),
    ],
)
def test_small_whole_numbers_go_with_fractions(
    tmp_path: Path, whole: pa.Array, fraction: pa.Array
) -> None:
    write_input(tmp_path, "a.parquet", {"prompt": ["x"] * 2, "n": whole})
    write_input(tmp_path, "b.parquet", {"prompt": ["x"], "n": fraction})
    plan = make_plan(job(tmp_path))
    assert plan.schema.field("n").type == fraction.type
    assert kept(plan, "n") == [*whole.to_pylist(), *fraction.to_pylist()]


@pytest.mark.parametrize("options", [{}, {"write_statistics": False}])
def test_whole_numbers_that_no_double_holds_are_refused_beside_fractions(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    write_input(tmp_path, "a.parquet", {"prompt": ["x"], "n": [BIG]}, **options)
    write_input(tmp_path, "b.parquet", {"prompt": ["x"], "n": [2.5]})
    told = r"column 'n' .*int64 in .*a.parquet; double in .*b.parquet, and double can't hold all"
    with pytest.raises(InputError, match=rf"{told}.*output.keep"):
        make_plan(job(tmp_path))


def test_the_two_types_that_are_told_are_those_that_do_not_go_together(tmp_path: Path) -> None:
    columns = {"a": pa.array([1], pa.int32()), "b": pa.array([2.5]), "c": pa.array([BIG])}
    for name, column in columns.items():
        write_input(tmp_path, f"{name}.parquet", {"prompt": ["x"], "n": column})
    with pytest.raises(InputError, match=r"double in .*b.parquet; int64 in .*c.parquet"):
        make_plan(job(tmp_path))


def test_unsigned_and_signed_integers_are_kept_exactly(tmp_path: Path) -> None:
    write_input(tmp_path, "a.parquet", {"prompt": ["x"], "n": pa.array([2**64 - 1], pa.uint64())})
    write_input(tmp_path, "b.parquet", {"prompt": ["x"], "n": [-1]})
    assert kept(make_plan(job(tmp_path)), "n") == [2**64 - 1, -1]


def test_json_integers_of_any_size_are_kept_exactly(tmp_path: Path) -> None:
    rows = [{"prompt": "x", "hash": 2**63 + k, "wide": 10**30 + k} for k in range(3)]
    jsonl(tmp_path, "a.jsonl", rows)
    plan = make_plan(job(tmp_path, input={"template": "{wide}"}))
    assert plan.schema.field("hash").type == pa.uint64()
    assert kept(plan, "hash") == [row["hash"] for row in rows]
    assert kept(plan, "wide") == [str(row["wide"]) for row in rows]
    assert [row["wide"] for row in used(plan)] == [row["wide"] for row in rows]


def test_json_files_that_disagree_are_kept_as_one_file_would_be(tmp_path: Path) -> None:
    jsonl(tmp_path, "a.jsonl", [{"prompt": "x", "n": 2**63, "m": 1, "d": BIG}])
    jsonl(tmp_path, "b.jsonl", [{"prompt": "x", "n": 1, "m": "x", "d": 0.5}])
    plan = make_plan(job(tmp_path))
    assert [plan.schema.field(name).type for name in "nmd"] == [
        pa.uint64(),
        pa.string(),
        pa.string(),
    ]
    assert [kept(plan, name) for name in "nmd"] == [[2**63, 1], ["1", '"x"'], [str(BIG), "0.5"]]


def test_a_value_out_of_the_common_range_fails_its_row_alone(tmp_path: Path) -> None:
    millis = pa.array([0, 221845392000000], pa.timestamp("ms"))  # the second in the year 9000
    write_input(tmp_path, "a.parquet", {"prompt": ["x", "y"], "at": millis})
    write_input(tmp_path, "b.parquet", {"prompt": ["z"], "at": pa.array([0], pa.timestamp("ns"))})
    plan = make_plan(job(tmp_path))
    input = plan.read(plan.shards[0])
    assert list(input.faults) == [1]
    told = "'at': a value of type timestamp[ms] does not fit timestamp[ns]"
    assert input.faults[1].startswith(told)
    assert "corrupt" not in input.faults[1]
