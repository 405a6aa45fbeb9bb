"""Parts: types kept exactly, footers that say what is in them, plain Parquet for everyone."""

import decimal
import json
from datetime import date, datetime, time, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rgpipeline.io.committed_rows import entry_of
from rgpipeline.io.log import read_footer
from rgpipeline.io.parts import (
    AddedColumns,
    PartLabel,
    build_part,
    parse_part_name,
    part_name,
    part_names,
)
from rgpipeline.jobfile import parse_job
from rgpipeline.records import OutputRow
from rgpipeline.tasks import added_columns
from rgpipeline.tasks.score_task import Score
from tests.io.schedules import MemoryStore

LABEL = PartLabel(12, 3, "host-1-attempt", "0123456789abcdef", {"model": "demo", "seed": "7"})


def columns_of(**sections: Any) -> AddedColumns:
    """The columns of a job with these sections."""
    output = {"path": "out", **sections.pop("output", {})}
    facts = {"model": {"weights": "demo"}, "input": {"path": "in"}, "output": output}
    return added_columns(parse_job({**facts, **sections}, "job"))


PLAIN = columns_of()


def rows(count: int) -> list[OutputRow]:
    return [
        OutputRow(
            row=number,
            id=f"in.parquet#{number}",
            completion=f"text {number}",
            finish_reason="stop",
            prompt_tokens=5,
            completion_tokens=number,
        )
        for number in range(count)
    ]


def read_back(data: bytes) -> pa.Table:
    return pq.read_table(pa.BufferReader(data))


def round_trip(kept: pa.Table) -> pa.Table:
    data = build_part(kept, rows(kept.num_rows), PLAIN, LABEL)
    return read_back(data).select(range(kept.num_columns))


def through_parquet(kept: pa.Table) -> pa.Table:
    """What pyarrow itself gives back: Parquet has one type for some two of Arrow's."""
    sink = pa.BufferOutputStream()
    pq.write_table(kept, sink)
    return read_back(bytes(sink.getvalue()))


NOW = datetime(2026, 1, 2, 3, 4, 5, 678901)
COLUMNS: dict[str, tuple[pa.DataType, list[Any]]] = {
    "int8": (pa.int8(), [-128, None, 127]),
    "uint64": (pa.uint64(), [0, None, 2**64 - 1]),
    "float16": (pa.float16(), [np.float16(1.5), None, np.float16("nan")]),
    "float64": (pa.float64(), [float("nan"), None, -0.0]),
    "bool": (pa.bool_(), [True, None, False]),
    "null": (pa.null(), [None, None, None]),
    "large_string": (pa.large_string(), ["", None, "\x00é日"]),
    "string_view": (pa.string_view(), ["", None, "more than twelve bytes"]),
    "binary": (pa.binary(), [b"\xff\x00", None, b""]),
    "fixed_binary": (pa.binary(3), [b"abc", None, b"\x00\x00\x00"]),
    "decimal": (pa.decimal128(38, 9), [decimal.Decimal("1.000000001"), None, None]),
    "decimal256": (pa.decimal256(50, 2), [decimal.Decimal("1.25"), None, None]),
    "date32": (pa.date32(), [date(1, 1, 1), None, date(9999, 12, 31)]),
    "time64": (pa.time64("us"), [time(23, 59, 59, 999999), None, time()]),
    "timestamp_ns_zone": (pa.timestamp("ns", "Europe/Rome"), [NOW, None, NOW]),
    "timestamp_s": (pa.timestamp("ms"), [datetime(2026, 1, 1), None, None]),
    "duration": (pa.duration("us"), [timedelta(microseconds=1), None, None]),
    "list": (pa.list_(pa.int16()), [[1, None], None, []]),
    "large_list": (pa.large_list(pa.string()), [["a"], None, []]),
    "fixed_list": (pa.list_(pa.float32(), 2), [[1, 2], None, [3, 4]]),
    "struct": (
        pa.struct([("role", pa.string()), ("more", pa.struct([("x", pa.list_(pa.int8()))]))]),
        [{"role": "user", "more": {"x": [1]}}, None, {"role": None, "more": None}],
    ),
    "map": (pa.map_(pa.string(), pa.int32()), [[("a", 1)], None, []]),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), ["a", None, "a"]),
    "ordered": (pa.dictionary(pa.int32(), pa.string(), ordered=True), ["b", None, "a"]),
    "list_of_dictionary": (pa.list_(pa.dictionary(pa.int32(), pa.string())), [["a"], None, []]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_kept_column_comes_back_with_its_exact_type(name: str) -> None:
    kind, values = COLUMNS[name]
    kept = pa.table({"kept": pa.array(values, kind)})
    found, expected = round_trip(kept).column(0), through_parquet(kept).column(0)
    assert repr(found.to_pylist()) == repr(expected.to_pylist())  # NaN is not equal to itself
    assert found.type == expected.type == kind


@pytest.mark.parametrize("index", [pa.int8(), pa.uint16(), pa.int64()])
def test_a_dictionary_with_other_indices_keeps_its_values(index: pa.DataType) -> None:
    kept = pa.table({"kept": pa.array(["a", None, "b"]).cast(pa.dictionary(index, pa.string()))})
    assert round_trip(kept).column(0).equals(through_parquet(kept).column(0))


def test_a_dictionary_column_in_pieces_carries_only_the_values_it_uses() -> None:
    whole = pa.array([f"value {k}" * 20 for k in range(10_000)]).dictionary_encode()
    kept = pa.table({"kept": pa.chunked_array([whole[5:6], whole[9:10], whole[:0]])})
    data = build_part(kept, rows(2), PLAIN, LABEL)
    assert len(data) < 20_000
    assert read_back(data).column("kept").to_pylist() == kept.column(0).to_pylist()


def test_a_column_may_have_any_name() -> None:
    kept = pa.table({"a.b": [1], "": [2], "ü 日": [3], "list.element": [[4]]})
    assert round_trip(kept).to_pydict() == kept.to_pydict()


def test_a_part_of_no_kept_columns_is_a_part() -> None:
    kept = pa.table({"x": [1, 2]}).select([])
    assert read_back(build_part(kept, rows(2), PLAIN, LABEL)).num_rows == 2


def test_notes_of_the_source_are_left_behind() -> None:
    noted = pa.field("a", pa.int64(), metadata={"PARQUET:field_id": "7"})
    schema = pa.schema([noted], {"pandas": "{}"})
    table = read_back(build_part(pa.table([[1]], schema=schema), rows(1), PLAIN, LABEL))
    assert b"pandas" not in table.schema.metadata


def test_columns_we_add_stand_after_the_kept_ones_with_their_types() -> None:
    part = read_back(build_part(pa.table({"q": ["a"]}), rows(1), PLAIN, LABEL))
    assert part.schema.remove_metadata() == pa.schema(
        [
            ("q", pa.string()),
            ("id", pa.string()),
            ("sample", pa.int32()),
            ("segment", pa.int32()),
            ("completion", pa.large_string()),
            ("finish_reason", pa.string()),
            ("prompt_tokens", pa.int64()),
            ("completion_tokens", pa.int64()),
            ("error", pa.string()),
        ]
    )
    assert part.slice(0, 1).to_pylist()[0] == {
        "q": "a",
        "id": "in.parquet#0",
        "sample": 0,
        "segment": 0,
        "completion": "text 0",
        "finish_reason": "stop",
        "prompt_tokens": 5,
        "completion_tokens": 0,
        "error": None,
    }


def test_asked_for_columns_come_last_and_the_prefix_before_all_of_ours() -> None:
    added = columns_of(output={"prefix": "rg_", "token_ids": True}, sampling={"logprobs": 1})
    row = OutputRow(0, "a", completion="x", completion_ids=[3, 4], logprobs=[-0.5, -1.0])
    part = read_back(build_part(pa.table({"q": ["a"]}), [row], added, LABEL))
    assert part.column_names[1:] == [name for name in added.names if name.startswith("rg_")]
    assert part.column("rg_completion_ids").to_pylist() == [[3, 4]]
    assert part.schema.field("rg_logprobs").type == pa.list_(pa.float32())


def test_scores_have_columns_of_their_own() -> None:
    added = columns_of(task="score", sampling={"logprobs": 1})
    row = OutputRow(
        0,
        "a",
        prompt_tokens=3,
        result=Score(np.asarray([-0.5, -2.0], np.float32), -2.5, 2, is_greedy=False),
    )
    part = read_back(build_part(pa.table({"q": ["a"]}), [row], added, LABEL)).to_pylist()[0]
    assert (part["tokens"], part["logprob"], part["perplexity"]) == (2, -2.5, np.exp(1.25))
    assert part["token_logprobs"] == [-0.5, -2.0]


def test_a_part_is_zstd_and_says_whose_it_is() -> None:
    file = pq.ParquetFile(
        pa.BufferReader(build_part(pa.table({"q": ["a"]}), rows(1), PLAIN, LABEL))
    )
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    told = {key.decode(): value.decode() for key, value in file.metadata.metadata.items()}
    assert (told["rgp.shard"], told["rgp.part"]) == ("12", "3")
    assert (told["rgp.attempt"], told["rgp.job"]) == ("host-1-attempt", "0123456789abcdef")
    assert (told["rgp.model"], told["rgp.seed"]) == ("demo", "7")
    assert json.loads(told["rgp.rows"])["row"] == [0]


entries = st.builds(
    OutputRow,
    row=st.integers(0, 10**6),
    id=st.text(),
    sample=st.integers(0, 1023),
    samples=st.integers(1, 1024),
    segment=st.integers(0, 10**6),
    completion=st.none() | st.text(),
    finish_reason=st.sampled_from([None, "stop", "length", "error"]),
    prompt_tokens=st.integers(0, 10**9),
    completion_tokens=st.integers(0, 10**9),
    error=st.none() | st.text(min_size=1),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(entries, min_size=1, max_size=20))
def test_a_footer_tells_what_the_rows_are(output: list[OutputRow]) -> None:
    store = MemoryStore()
    kept = pa.table({"q": pa.nulls(len(output), pa.string())})
    store.create("p", build_part(kept, output, PLAIN, LABEL))
    footer = read_footer(store, "p")
    assert list(footer.entries) == [entry_of(row) for row in output]
    assert footer.completion_tokens == sum(row.completion_tokens for row in output)
    assert footer.prompt_tokens == sum(r.prompt_tokens for r in output if r.segment == 0)
    assert (footer.shard, footer.part, footer.attempt) == (12, 3, "host-1-attempt")


def test_a_footer_larger_than_one_read_is_read_whole() -> None:
    output = [OutputRow(row, str(row), sample=row % 7, samples=7) for row in range(20_000)]
    store = MemoryStore()
    store.create("p", build_part(pa.table({"q": [0] * 20_000}), output, PLAIN, LABEL))
    assert len(read_footer(store, "p").entries) == 20_000


@given(st.integers(0, 10**7), st.integers(0, 10**6))
def test_names_are_told_apart_whatever_their_length(shard: int, part: int) -> None:
    assert parse_part_name(part_name(shard, part)) == (shard, part)


@pytest.mark.parametrize("name", ["part-0-0.parquet", "_SUCCESS", "part-00000-0000.parquet.tmp"])
def test_other_names_are_no_parts(name: str) -> None:
    assert parse_part_name(name) is None


def test_parts_are_in_the_order_of_their_numbers() -> None:
    store = MemoryStore()
    names = [part_name(0, 9999), part_name(0, 10_000), part_name(99_999, 0), part_name(100_000, 0)]
    for name in [*reversed(names), "part-of-something.parquet"]:
        store.create(name, b"")
    assert part_names(store) == names
