"""One type for a column of several files: it holds every value of both, or there is none."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from rgpipeline.io.arrow_types import common_type, fitted

S, L, V = pa.string(), pa.large_string(), pa.string_view()
I32, I64, U64, F64 = pa.int32(), pa.int64(), pa.uint64(), pa.float64()
UUID16 = pa.binary(16)
ONE = pa.struct([("a", I32)])


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        (pa.null(), I64, I64),
        (S, V, S),
        (V, L, L),
        (pa.dictionary(pa.int8(), S), S, S),
        (pa.dictionary(pa.int8(), S), pa.dictionary(pa.int16(), S), pa.dictionary(I32, S)),
        (pa.json_(), S, S),
        (pa.json_(L), V, L),
        (pa.uuid(), UUID16, UUID16),
        (pa.binary(4), pa.binary_view(), pa.binary()),
        (pa.int8(), pa.uint8(), pa.int16()),
        (pa.uint32(), I64, I64),
        (U64, pa.uint8(), U64),
        (U64, I64, pa.decimal128(20, 0)),
        (I32, F64, F64),
        (pa.int16(), pa.float32(), pa.float32()),
        (I64, pa.decimal128(5, 2), pa.decimal128(21, 2)),
        (pa.decimal128(38, 0), pa.decimal128(10, 5), pa.decimal256(43, 5)),
        (pa.timestamp("ms"), pa.timestamp("ns"), pa.timestamp("ns")),
        (pa.timestamp("s", "UTC"), pa.timestamp("s", "Asia/Tokyo"), pa.timestamp("s", "UTC")),
        (pa.time32("s"), pa.time64("us"), pa.time64("us")),
        (pa.date32(), pa.date64(), pa.date64()),
        (pa.list_(I32), pa.large_list(I64), pa.large_list(I64)),
        (pa.list_view(I64), pa.list_(I64, 2), pa.list_(I64)),
        (pa.list_(pa.dictionary(pa.int8(), S)), pa.list_(S), pa.list_(S)),
        (ONE, pa.struct([("b", S), ("a", I64)]), pa.struct([("a", I64), ("b", S)])),
        (pa.map_(S, I32), pa.map_(L, I64), pa.map_(L, I64)),
    ],
)  # fmt: skip
def test_types_that_go_together_have_one_that_holds_both(one: Any, other: Any, common: Any) -> None:
    assert common_type(one, other) == common
    assert common_type(other, one).num_fields == common.num_fields


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (I64, F64),
        (U64, pa.float32()),
        (pa.list_(I64), pa.list_(F64)),
        (pa.struct([("a", I64)]), pa.struct([("a", F64)])),
        (pa.decimal128(20, 0), F64),
        (S, I64),
        (S, pa.uuid()),
        (pa.bool_(), I64),
        (pa.timestamp("s"), pa.timestamp("s", "UTC")),
        (pa.list_(I64), I64),
    ],
)
def test_types_without_one_that_holds_both_are_told(one: Any, other: Any) -> None:
    assert common_type(one, other) is None
    assert common_type(other, one) is None


def test_64_bit_integers_known_to_be_small_go_with_fractions() -> None:
    kinds = [pa.list_(pa.struct([("a", kind)])) for kind in (I64, F64)]
    assert common_type(*kinds, small=True) == kinds[1]


@pytest.mark.parametrize(
    ("values", "kind", "wanted"),
    [
        (["a", None], pa.dictionary(pa.int8(), S), L),
        ([[1, 2], None, []], pa.list_view(pa.int8()), pa.list_(I64)),
        ([[1, 2], None], pa.list_(I32, 2), pa.large_list(I64)),
        ([[["a"]]], pa.list_(pa.list_(pa.dictionary(pa.int8(), S))), pa.list_(pa.list_(L))),
        ([{"a": 1}], pa.struct([("a", I32)]), pa.struct([("a", I64), ("b", S)])),
        ([[("k", 1)]], pa.map_(S, I32), pa.map_(L, I64)),
        ([2**64 - 1], U64, pa.decimal128(20, 0)),
    ],
)
def test_a_column_keeps_its_values_in_another_type(
    values: list[Any], kind: Any, wanted: Any
) -> None:
    faults: dict[int, str] = {}
    table = pa.table({"v": pa.array(values, kind)})
    found = fitted(table, pa.schema([("v", wanted)]), faults).column("v")
    expected = pa.array(values, wanted)
    assert (found.combine_chunks(), faults) == (expected, {})


def test_json_and_uuid_columns_are_held_as_what_they_are_stored_as() -> None:
    table = pa.table(
        {"j": pa.array(['{"a":1}'], pa.json_()), "u": pa.array([bytes(range(16))], pa.uuid())}
    )
    found = fitted(table, pa.schema([("j", S), ("u", UUID16)]), {})
    assert found.to_pylist() == [{"j": '{"a":1}', "u": bytes(range(16))}]


def test_a_value_that_does_not_fit_is_a_fault_of_its_row_naming_column_and_types() -> None:
    dates = [datetime(2024, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC), None]
    table = pa.table({"at": pa.array(dates, pa.timestamp("s", "UTC")), "n": [1, 2, 3]})
    schema = pa.schema([("at", pa.timestamp("ns", "UTC")), ("n", pa.decimal128(21, 1))])
    faults: dict[int, str] = {}
    found = fitted(table, schema, faults, first=10).to_pylist()
    assert [row["at"] for row in found] == [dates[0], None, None]
    assert [row["n"] for row in found] == [Decimal(1), Decimal(2), Decimal(3)]
    assert list(faults) == [11]
    assert faults[11].startswith(
        "'at': a value of type timestamp[s, tz=UTC] does not fit timestamp[ns"
    )


COLUMNS = {
    "int8": pa.array([-128, None], pa.int8()),
    "uint32": pa.array([2**32 - 1], pa.uint32()),
    "int64": pa.array([-(2**63), 2**63 - 1]),
    "uint64": pa.array([2**64 - 1], pa.uint64()),
    "float": pa.array([0.1, None], pa.float32()),
    "double": pa.array([0.1]),
    "decimal": pa.array([Decimal("1.25")]),
    "wide decimal": pa.array([Decimal(10**30)], pa.decimal128(38, 0)),
    "text": pa.array(["a\n", None]),
    "large text": pa.array(["ä"], L),
    "text view": pa.array(["b" * 50], V),
    "dictionary": pa.array(["a", "a"]).dictionary_encode(),
    "bytes": pa.array([b"\xff"]),
    "sixteen bytes": pa.array([bytes(16)], UUID16),
    "uuid": pa.array([bytes(16)], pa.uuid()),
    "json": pa.array(['{"a": [1]}'], pa.json_()),
    "nanoseconds": pa.array([1001], pa.timestamp("ns")),
    "milliseconds": pa.array([1, None], pa.timestamp("ms")),
    "list": pa.array([[1, None], None, []], pa.list_(pa.int8())),
    "large list": pa.array([[2**40]], pa.large_list(I64)),
    "fixed list": pa.array([[1, 2], None], pa.list_(I32, 2)),
    "list view": pa.array([[1, 2], None], pa.list_view(I64)),
    "list of texts": pa.array([["a"]]),
    "list of dictionaries": pa.array([["a", None]], pa.list_(pa.dictionary(pa.int8(), S))),
    "struct": pa.array([{"a": 1}, None], ONE),
    "wider struct": pa.array([{"b": "x", "a": 2**40}]),
    "map": pa.array([[("a", 1)], None], pa.map_(S, I32)),
    "large map": pa.array([[("a", 2**40)]], pa.map_(L, I64)),
}


def plain(value: Any) -> Any:
    """A value without what types may add or tell apart: null fields, text and its bytes."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items() if one is not None}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value.encode() if isinstance(value, str) else getattr(value, "bytes", value)


@pytest.mark.parametrize("one", COLUMNS)
def test_the_type_of_any_two_columns_holds_the_values_of_both(one: str) -> None:
    for other in COLUMNS.values():
        common = common_type(COLUMNS[one].type, other.type)
        assert (common is None) == (common_type(other.type, COLUMNS[one].type) is None)
        if common is None:
            continue
        for column in (COLUMNS[one], other):
            faults: dict[int, str] = {}
            found = fitted(pa.table({"v": column}), pa.schema([("v", common)]), faults)
            assert (plain(found["v"].to_pylist()), faults) == (plain(column.to_pylist()), {})
