"""Whatever columns callers bring: the texts and token ids in them, or a refusal by type."""

from array import array

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from rgpipeline.errors import RowError, UserError
from rgpipeline.generator.arguments import elements, prompt_value, row_ids, samplings

TEXTS = ["In the beginning", "ünïcode"]
IDS = [[1, 2, 3], [4]]


def values(prompts: object) -> list[object]:
    found = [prompt_value(p) for p in elements(prompts, "prompts", "a list")]
    return [one if isinstance(one, str) else one.tolist() for one in found]


@pytest.mark.parametrize(
    "column",
    [
        TEXTS,
        tuple(TEXTS),
        iter(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, object),
        pa.array(TEXTS),
        pa.array(TEXTS, pa.large_string()),
        pa.array(TEXTS, pa.string_view()),
        pa.array(TEXTS).dictionary_encode(),
        pa.chunked_array([TEXTS[:1], TEXTS[1:]]),
        [pa.scalar(text) for text in TEXTS],
        pl.Series(TEXTS),
        pl.Series(TEXTS, dtype=pl.Categorical),
    ],
    ids=lambda column: getattr(column, "type", type(column).__name__),
)
def test_a_column_of_texts_is_its_texts(column):
    assert values(column) == TEXTS


@pytest.mark.parametrize(
    "column",
    [
        IDS,
        [tuple(IDS[0]), range(4, 5)],
        [np.array(ids, np.uint16) for ids in IDS],
        [array("i", ids) for ids in IDS],
        [[np.int32(index) for index in ids] for ids in IDS],
        [pa.array(ids) for ids in IDS],
        [pa.scalar(ids) for ids in IDS],
        [[pa.scalar(index) for index in ids] for ids in IDS],
        pa.array(IDS, pa.large_list(pa.int32())),
        pa.array(IDS, pa.list_view(pa.int64())),
        pa.chunked_array([pa.array(IDS, pa.list_(pa.uint8()))]),
        pl.Series(IDS),
    ],
    ids=lambda column: str(getattr(column, "type", type(column).__name__)),
)
def test_a_column_of_token_ids_is_its_ids(column):
    assert values(column) == IDS


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        (b"text", "a bytes"),
        (bytearray(b"text"), "a bytearray"),
        (memoryview(b"text"), "a memoryview"),
        (pa.scalar(b"text"), "a bytes"),
        (pa.scalar(None, pa.string()), "null"),
        (np.bytes_(b"text"), "a numpy.bytes_"),
        (None, "null"),
        (1.5, "a float"),
        (7, "an int"),
        (True, "a bool"),
        ({"prompt": "text"}, "a dict"),
        ({1, 2}, "a set"),
        ([1, True], "item 1 is a bool"),
        ([1.0], "item 0 is a float"),
        ([1, None], "item 1 is null"),
        (["text"], "item 0 is a str"),
        ([[1, 2]], "item 0 is a list"),
        (np.array([1.0]), "numpy.ndarray of float64"),
        (np.array([True]), "numpy.ndarray of bool"),
        (np.zeros((1, 2), int), "of 2 dimensions"),
        (pa.array(["text"]), "pyarrow.StringArray"),
        (pa.array([1, None]), "pyarrow.Int64Array"),
        (pa.array([b"text"]), "pyarrow.BinaryArray"),
    ],
)
def test_what_is_neither_text_nor_token_ids_is_refused_by_type(prompt, found):
    with pytest.raises(RowError, match="neither a text nor a list of token ids") as caught:
        prompt_value(prompt)
    assert found in str(caught.value)


@pytest.mark.parametrize(
    ("prompts", "told"),
    [
        ("text", "a single text"),
        (b"text", "a bytes"),
        (None, "null"),
        (5, "an int"),
        ({"a": "text"}, "a dict"),
        (np.array(5), "numpy.ndarray"),
        (pa.table({"prompt": TEXTS}), "a table .* give one of its columns"),
        (pl.DataFrame({"prompt": TEXTS}), "a table .* give one of its columns"),
    ],
)
def test_what_is_no_list_of_prompts_is_refused(prompts, told):
    with pytest.raises(UserError, match=told):
        elements(prompts, "prompts", "a list of prompts")


def test_ids_may_be_texts_or_whole_numbers_of_any_column():
    assert row_ids(pa.array(["a", "b"]), 2) == ["a", "b"]
    assert row_ids(np.array([7, 8]), 2) == ["7", "8"]
    assert row_ids(None, 2) == ["0", "1"]


@pytest.mark.parametrize("one", [None, 1.5, True, b"a", ["a"]])
def test_an_id_of_another_type_is_refused_with_its_place(one):
    with pytest.raises(UserError, match=r"ids\[1\] is"):
        row_ids(["a", one], 2)


def test_sampling_of_an_arrow_column_leaves_fields_without_a_value_alone():
    column = pa.array([{"temperature": 0.0, "seed": None}, None])
    found = samplings(column, 2)
    assert [one.temperature for one in found] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("sampling", "told"),
    [("greedy", "a single text"), (5, "an int"), ([5, {}], r"sampling\[0\] is an int")],
)
def test_sampling_of_another_type_is_refused(sampling, told):
    with pytest.raises(UserError, match=told):
        samplings(sampling, 2)
