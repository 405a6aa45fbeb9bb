"""Values that prompts, ids and sampling come from: each row's own, whatever others hold."""

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgpipeline.errors import RowError
from rgpipeline.io.parquet import ParquetReader
from rgpipeline.io.used_values import (
    as_text,
    exact_field,
    exact_name,
    exact_text,
    json_column,
    value_of,
)
from rgpipeline.records import InputFile

S = pa.string()
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(json_values, min_size=1, max_size=6))
def test_json_values_come_back_whatever_stands_beside_them(values: list[Any]) -> None:
    faults: dict[int, str] = {}
    field, column = json_column("v", values, faults)
    found = [value_of(field, scalar) for scalar in column]
    assert (json.dumps(found), faults) == (json.dumps(values), {})


@pytest.mark.parametrize("neighbour", ["b", 5, None])
@pytest.mark.parametrize("bad", ["\ud800", "a\udfff", "\udfff\ud800"])
def test_half_a_surrogate_in_a_text_is_a_fault_of_its_row(bad: str, neighbour: Any) -> None:
    faults: dict[int, str] = {}
    field, column = json_column("v", ["😀", bad, neighbour], faults)
    assert [value_of(field, scalar) for scalar in column] == ["😀", None, neighbour]
    assert list(faults) == [1]


@pytest.mark.parametrize(
    ("array", "value"),
    [
        (pa.array(["a"], pa.large_string()), "a"),
        (pa.array(["a"], pa.string_view()), "a"),
        (pa.array(["a"]).dictionary_encode(), "a"),
        (pa.array([None], pa.null()), None),
        (pa.array(['"a\\n"'], pa.json_()), "a\n"),
        (pa.array(["5"], pa.json_()), 5),
        (pa.array([bytes(16)], pa.uuid()), UUID(int=0)),
        (pa.array([[1, 2]], pa.list_view(pa.int8())), [1, 2]),
        (pa.array([["a"]], pa.list_(pa.dictionary(pa.int8(), S))), ["a"]),
        (pa.array([[("k", 1)]], pa.map_(S, pa.int8())), {"k": 1}),
        (pa.array([1_000], pa.timestamp("ns")), datetime(1970, 1, 1, 0, 0, 0, 1)),
        (pa.array([1_001], pa.timestamp("ns", "UTC")), "1970-01-01 00:00:00.000001001+00:00"),
    ],
)  # fmt: skip
def test_a_value_is_read_as_python_has_it(array: pa.Array, value: object) -> None:
    assert value_of(pa.field("v", array.type), array[0]) == value


def test_json_within_structs_and_lists_is_decoded() -> None:
    content = pa.array(['"Hi"', '[{"type": "text"}]', None], pa.json_())
    messages = pa.StructArray.from_arrays([pa.array(["user"] * 3), content], ["role", "content"])
    column = pa.ListArray.from_arrays([0, 3], messages)
    found = value_of(pa.field("m", column.type), column[0])
    assert [one.get("content") for one in found] == ["Hi", [{"type": "text"}], None]


def test_fields_that_other_rows_structs_have_are_absent() -> None:
    tools = pa.array([[{"name": "f", "parameters": {"a": 1}}, {"parameters": {"b": [None]}}]])
    found = value_of(pa.field("t", tools.type), tools[0])
    assert found == [{"name": "f", "parameters": {"a": 1}}, {"parameters": {"b": [None]}}]


def test_json_that_is_none_is_told_with_its_column() -> None:
    column = pa.array(["nonsense"], pa.json_())
    with pytest.raises(RowError, match=r"'v': extension<arrow.json> that can't be read"):
        value_of(pa.field("v", column.type), column[0])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (2**64, "18446744073709551616"),
        (Decimal("0E-10"), "0.0000000000"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (datetime(2024, 1, 2), "2024-01-02 00:00:00"),
        ("é".encode(), "é"),
        (b"\xff\x00", "ff00"),
        (b"a\x00", "6100"),
    ],
)
def test_a_value_has_one_spelling(value: object, text: str) -> None:
    assert as_text(value) == text


def test_columns_that_duckdb_writes_as_json_have_the_values_of_its_input(tmp_path: Path) -> None:
    rows = [
        {"prompt": "In\n", "m": [{"role": "user", "content": "Hi"}]},
        {"prompt": 5, "m": [{"role": "user", "content": [{"type": "text", "text": "Yo"}]}]},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "a.parquet"
    duckdb.sql(f"COPY (SELECT * FROM read_json_auto('{tmp_path}/a.jsonl')) TO '{path}'")
    table = pq.read_table(path)
    found = [
        {field.name: value_of(field, table[field.name][row]) for field in table.schema}
        for row in range(2)
    ]
    assert found == rows


def test_an_exact_column_stands_for_the_one_beside_it(tmp_path: Path) -> None:
    exact = exact_field(exact_name("n"))
    schema = pa.schema([("n", pa.float64()), exact])
    table = pa.table([[5.0, 0.5], [exact_text(5), exact_text(0.5)]], schema=schema)
    pq.write_table(table, tmp_path / "a.parquet")
    file = InputFile(str(tmp_path / "a.parquet"), "a", 0, "", 2)
    rows = ParquetReader(None).read(file, 0, 2, pa.schema([("n", pa.float64())]), ["n"])
    assert rows.table.to_pylist() == [{"n": 5.0}, {"n": 0.5}]
    assert rows.used is not None
    assert rows.used.to_pylist() == [{"n": "5"}, {"n": "0.5"}]
