"""JSON Lines whose columns mix every kind of value: a row's result is what it would be alone."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.jobs import OWN, Refused, Row, bounded, run, with_chat

NUMBERS = st.one_of(
    st.integers(-5, 12),
    st.sampled_from([2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30, -(2**63) - 1]),
    st.floats(),
)
TEXTS = st.text("ab é\n\"\\{}'", max_size=6) | st.sampled_from(["\ud800", "null", "5", "[1]", ""])
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
ANY = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "role", "content", "\udfff", ""]), inner)
    ),
    max_leaves=5,
)
GOOD_TEXT = st.text("ab ", min_size=1, max_size=5)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system"]), "content": GOOD_TEXT}
)
PARTS = st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": GOOD_TEXT}), min_size=1)
SAMPLING = st.fixed_dictionaries(
    {},
    optional={
        "max_tokens": st.none() | st.integers(1, 6),
        "stop": st.none() | GOOD_TEXT | st.lists(GOOD_TEXT, max_size=2),
        "stop_ids": st.none() | st.lists(st.integers(1, 9), max_size=2),
        "logit_bias": st.dictionaries(st.sampled_from("3456"), st.floats(-1, 1), max_size=2),
        "temperature": st.sampled_from([0, 1, 0.5]),
        "ignore_eos": st.booleans(),
    },
)
ROLES: dict[str, tuple[dict[str, Any], st.SearchStrategy[Any]]] = {
    "prompt": ({"columns": {"prompt": "x"}}, GOOD_TEXT),
    "template": ({"template": "a {x} {prompt}"}, GOOD_TEXT | NUMBERS),
    "id": ({"columns": {"prompt": "prompt", "id": "x"}}, GOOD_TEXT | st.integers()),
    "prompt_ids": ({"columns": {"prompt_ids": "x"}}, st.lists(st.integers(0, 9), min_size=1)),
    "messages": (
        {"columns": {"messages": "x"}},
        st.lists(MESSAGE | MESSAGE.map(lambda m: m | {"content": [m]}), min_size=1, max_size=2),
    ),
    "sampling": ({"columns": {"prompt": "prompt", "sampling": "x"}}, SAMPLING),
    "completion": ({"columns": {"prompt": "prompt", "completion": "x"}}, GOOD_TEXT),
    "kept": ({"columns": {"prompt": "prompt"}}, ANY),
}


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, list[Row]]:
    """A role, and rows whose column `x` plays it; some rows lack it."""
    role = draw(st.sampled_from(sorted(ROLES)))
    values = st.one_of(ROLES[role][1], ROLES[role][1], ANY)
    rows: list[Row] = []
    for number in range(draw(st.integers(2, 5))):
        row: Row = {"n": number, "prompt": draw(GOOD_TEXT)}
        if draw(st.integers(0, 9)):
            row["x"] = draw(values)
        rows.append(row)
    return role, rows


def write(path: Path, rows: list[Row]) -> None:
    if not any("x" in row for row in rows):  # a file that lacks a column is refused
        rows = [{"x": None, **row} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def outcome(role: str, rows: list[Row], *files: slice) -> dict[int, Row] | Refused:
    """The output row of each input row, by its number n; each must come exactly once."""
    with TemporaryDirectory() as name:
        folder = with_chat(Path(name))
        for number, part in enumerate(files or (slice(None),)):
            if rows[part]:
                write(folder / "in" / f"{number}.jsonl", rows[part])
        done = run(
            folder,
            {"path": str(folder / "in"), **ROLES[role][0]},
            task="score" if role == "completion" else "generate",
            output={"keep": ["n", "x"] if role == "kept" else ["n"]},
        )
    if isinstance(done, Refused):
        return done
    assert sorted(row["n"] for row in done) == [row["n"] for row in rows]
    return {row["n"]: row for row in done}


def figures(row: Row, names: list[str]) -> list[Any]:
    """Some columns of an output row; a list of one is the one.

    A text to score is a list of one where another row of the table has a list of texts.
    """
    values = [row.get(name) for name in names]
    return [one[0] if isinstance(one, list) and len(one) == 1 else one for one in values]


@bounded
@given(tables(), st.integers(0, 4))
def test_a_row_comes_out_as_it_would_alone(table: tuple[str, list[Row]], cut: int) -> None:
    role, rows = table
    together = outcome(role, rows, slice(0, cut), slice(cut, None))
    for row in rows:
        alone = outcome(role, [row])
        if isinstance(alone, Refused) or alone[row["n"]]["error"] is not None:
            if not isinstance(together, Refused):
                assert together[row["n"]]["error"] is not None, (alone, together)
            continue
        if isinstance(together, Refused):  # no row gives x a value of a usable type
            assert row.get("x") is None, together.message
            continue
        mine, other = alone[row["n"]], together[row["n"]]
        assert other["error"] is None, (row, other["error"])
        names = [*OWN, "id"] if role == "id" else OWN
        assert figures(mine, names) == figures(other, names), row
