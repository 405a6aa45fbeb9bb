"""The time that is left: from tokens, and a bound is called one."""

from typing import Any

import pytest

from rgpipeline.dispatch.job_view import Eta, RowTokens, eta
from rgpipeline.jobfile import parse_job
from rgpipeline.spec import Columns, Job

UNKNOWN, LIMITED = RowTokens(), RowTokens(100)


def job(**sections: Any) -> Job:
    required = {"model": {"weights": "w"}, "input": {"path": "i"}, "output": {"path": "o"}}
    return parse_job({**required, **sections}, "job")


def test_rows_to_come_are_as_long_as_those_done() -> None:
    assert eta(left=30, done=10, tokens=500, per_second=10, row=UNKNOWN) == Eta(150.0)


def test_before_a_row_is_done_its_limit_gives_a_bound() -> None:
    assert eta(left=8, done=0, tokens=200, per_second=10, row=LIMITED) == Eta(60.0, at_most=True)


def test_rows_under_way_make_no_row_longer_than_its_limit() -> None:
    assert eta(left=9, done=1, tokens=400, per_second=10, row=LIMITED) == Eta(60.0)


def test_rows_that_nothing_ends_sooner_are_no_bound_but_known() -> None:
    assert eta(8, 0, 200, 10, RowTokens(100, all_reach_limit=True)) == Eta(60.0)


def test_without_a_limit_or_a_rate_nothing_can_be_said() -> None:
    assert eta(8, 0, 200, 10, UNKNOWN) == eta(8, 0, 200, 0.0, LIMITED) == Eta()


def test_nothing_is_left_of_a_job_that_is_done() -> None:
    assert eta(0, 8, 200, 0.0, UNKNOWN) == Eta(0.0)


@pytest.mark.parametrize(
    ("sections", "columns", "known"),
    [
        ({"sampling": {"max_tokens": 50, "n": 3}}, Columns(), RowTokens(150)),
        ({"sampling": {"max_tokens": 50, "ignore_eos": True}}, Columns(), RowTokens(50, True)),
        (
            {"sampling": {"max_tokens": 50, "ignore_eos": True, "stop": "."}},
            Columns(),
            RowTokens(50),
        ),
        ({"sampling": {"max_tokens": None}}, Columns(), RowTokens()),
        ({}, Columns(sampling="how"), RowTokens()),
        ({"task": "score"}, Columns(), RowTokens()),
    ],
    ids=["samples", "to the limit", "a stop", "no limit", "rows' own limits", "scores"],
)
def test_what_is_known_of_a_row(
    sections: dict[str, Any], columns: Columns, known: RowTokens
) -> None:
    assert RowTokens.of(job(**sections), columns) == known
