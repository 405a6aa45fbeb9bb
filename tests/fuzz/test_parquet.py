"""Parquet with every Arrow type in every column role: a row's result is what it would be alone."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.fuzz.arrow import GOOD_TEXTS, ROLES, Typed, any_type
from tests.fuzz.jobs import OWN, Refused, Row, bounded, run, with_chat


class Input(NamedTuple):
    """What plays which role, and the files it stands in."""

    role: str
    files: list[pa.Table]


@st.composite
def column(draw: st.DrawFn, typed: Typed, rows: int) -> pa.Array:
    kind, values = typed
    items = draw(st.lists(st.none() | values | values, min_size=rows, max_size=rows))
    storage = getattr(kind, "storage_type", None)
    if storage is None:
        return pa.array(items, kind)
    return pa.ExtensionArray.from_storage(kind, pa.array(items, storage))


@st.composite
def inputs(draw: st.DrawFn) -> Input:
    role = draw(st.sampled_from(sorted(ROLES)))
    types = st.sampled_from(ROLES[role][1]) | st.sampled_from(ROLES[role][1]) | any_type()
    typed, first = draw(types), 0
    files = []
    for _ in range(draw(st.integers(1, 2))):
        rows = draw(st.integers(1, 3))
        prompts = draw(st.lists(GOOD_TEXTS, min_size=rows, max_size=rows))
        x = draw(column(typed, rows))
        files.append(pa.table({"n": range(first, first + rows), "prompt": prompts, "x": x}))
        first += rows
        typed = draw(st.just(typed) | types)
    return Input(role, files)


def write(table: pa.Table, path: Path, by_polars: bool) -> None:
    """Writes the table; an example that the writer has no type for is dropped."""
    try:
        if by_polars:
            pl.from_arrow(table).write_parquet(path)
        else:
            pq.write_table(table, path)
    except (pa.ArrowException, pl.exceptions.PolarsError):
        assume(False)
    except BaseException as error:  # polars panics at some nested types
        assume(type(error).__name__ != "PanicException")
        raise


def outcome(role: str, files: list[pa.Table], by_polars: bool) -> dict[int, Row] | Refused:
    """The output row of each input row, by its number n; each must come exactly once."""
    with TemporaryDirectory() as name:
        folder = with_chat(Path(name))
        for index, table in enumerate(files):
            write(table, folder / "in" / f"{index}.parquet", by_polars)
        keep = ["n", "x"] if role == "kept" else ["n"]
        done = run(folder, {"path": f"{name}/in", **ROLES[role][0]}, output={"keep": keep})
    if isinstance(done, Refused):
        return done
    assert sorted(row["n"] for row in done) == [n for file in files for n in file["n"].to_pylist()]
    return {row["n"]: row for row in done}


def same(one: Any, other: Any) -> bool:
    """Equality that takes NaN for equal to NaN."""
    return repr(one) == repr(other)


@bounded
@given(inputs(), st.booleans())
def test_a_row_comes_out_as_it_would_alone(input: Input, by_polars: bool) -> None:
    role, files = input
    together = outcome(role, files, by_polars)
    types = {file.schema.field("x").type for file in files}
    if isinstance(together, Refused):
        assert "x" in together.message
    for file in files:
        for index in range(file.num_rows):
            table = file.slice(index, 1)
            number = table["n"][0].as_py()
            alone = outcome(role, [table], by_polars)
            if isinstance(alone, Refused) or alone[number]["error"] is not None:
                if not isinstance(together, Refused):
                    assert together[number]["error"] is not None, (alone, together)
                continue
            if isinstance(together, Refused):  # types that don't go together are told, both
                assert len(types) == 2, together.message
                continue
            mine, other = alone[number], together[number]
            assert other["error"] is None, (table, other["error"])
            names = [*OWN, "id"] if role == "id" else OWN
            assert [mine.get(name) for name in names] == [other.get(name) for name in names], table
            if role == "kept" and len(types) == 1:
                assert same(mine["x"], other["x"])
