"""A row whose values are not what their type says costs itself, not its neighbours."""

import pyarrow as pa

from rgpipeline.io.readers import Rows, validated


def texts(*values: bytes | None) -> pa.Table:
    """A column of text that may hold any bytes."""
    held = pa.array(values, pa.binary())
    text = pa.StringArray.from_buffers(len(held), *held.buffers()[1:], held.buffers()[0])
    return pa.table({"n": list(range(len(values))), "text": text})


def test_good_rows_are_left_alone() -> None:
    rows = Rows(texts(b"a", None, "ä".encode()))
    assert validated(rows) is rows


def test_text_that_is_not_utf8_is_a_fault_of_its_row() -> None:
    found = validated(Rows(texts(b"a", b"\xff", b"c", b"\xc3", b"e")))
    assert found.faults == dict.fromkeys((1, 3), "'text': not valid; text must be UTF-8")
    assert found.table["text"].to_pylist() == ["a", None, "c", None, "e"]
    assert found.table["n"].to_pylist() == [0, None, 2, None, 4]


def test_what_was_wrong_before_is_kept() -> None:
    assert validated(Rows(texts(b"\xff", b"b"), {0: "gone"})).faults == {0: "gone"}
