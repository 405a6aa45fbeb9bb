"""Templates are filled from columns by whole names only; every mistake is named."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgpipeline.errors import JobError, RowError
from rgpipeline.text.prompt_template import PromptTemplate


def test_fields_are_filled_from_their_columns() -> None:
    template = PromptTemplate("Translate to {language}:\n{text}\n{text}")
    assert template.fill({"text": "a {b}", "language": "French", "other": 1}) == (
        "Translate to French:\na {b}\na {b}"
    )


@given(st.text(), st.text())
def test_filling_is_what_str_format_does(head: str, text: str) -> None:
    written = head.replace("{", "{{").replace("}", "}}") + "{text}"
    assert PromptTemplate(written).fill({"text": text}) == written.format(text=text)


def test_doubled_braces_are_braces() -> None:
    assert PromptTemplate('{{"q": "{q}"}}').fill({"q": "why"}) == '{"q": "why"}'


def test_a_column_name_may_hold_spaces() -> None:
    assert PromptTemplate("{first name}").fill({"first name": "Ada"}) == "Ada"


def test_a_dot_is_part_of_a_columns_name() -> None:
    template = PromptTemplate("About {meta.title}:")
    assert template.fill({"meta.title": "Ada", "meta": {"title": "x"}}) == "About Ada:"
    assert template.fields == ("meta.title",)


def test_numbers_and_dates_are_spelled() -> None:
    row = {"n": 3, "x": 0.5, "day": datetime.date(2026, 1, 2)}
    assert PromptTemplate("{n} {x} {day}").fill(row) == "3 0.5 2026-01-02"


def test_fields_are_the_columns_used_each_once() -> None:
    assert PromptTemplate("{b}{a}{b}").fields == ("b", "a")


@pytest.mark.parametrize(
    ("template", "names"),
    [
        ("{text", "expected '}'"),
        ("text}", "Single '}'"),
        ("{}", "{} names no column"),
        ("{text[0]}", r"{text[0]}"),
        ("{text!r}", "{text!r}"),
        ("{text:>10}", "{text:>10}"),
        ("{a:{b}}", "{a:{b}}"),
        ("no field, {{text}}", "names no column"),
    ],
)
def test_a_faulty_template_is_a_job_error(template: str, names: str) -> None:
    with pytest.raises(JobError) as caught:
        PromptTemplate(template)
    assert names in str(caught.value)
    assert "input.template" in str(caught.value)


@pytest.mark.parametrize("row", [{}, {"text": None}])
def test_a_missing_or_null_value_is_a_row_error(row: dict) -> None:
    with pytest.raises(RowError, match=r"'text'.*null or missing"):
        PromptTemplate("{text}").fill(row)


@pytest.mark.parametrize(
    ("value", "told"), [(["a"], "a list"), ({"a": 1}, "an object"), (b"a", "bytes")]
)
def test_a_value_without_one_spelling_is_a_row_error(value: object, told: str) -> None:
    with pytest.raises(RowError, match=told):
        PromptTemplate("{text}").fill({"text": value})
