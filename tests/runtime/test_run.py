"""Whole jobs on Ray: each row once, whatever happens to workers and drivers."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from rgpipeline import run
from rgpipeline.dispatch.view import JobView
from tests.runtime.engines import Slow, broken, unopenable
from tests.runtime.jobs import answers, job_over, prompts, right_answers

pytestmark = pytest.mark.usefixtures("cluster")


def once(condition: Callable[[JobView], bool], action: Callable[[], None]) -> Callable[[JobView], None]:
    """A `watch` that acts the first time that the condition holds."""
    acted: list[JobView] = []

    def watch(view: JobView) -> None:
        if not acted and condition(view):
            acted.append(view)
            action()

    return watch


def test_every_row_is_answered_once(tmp_path: Path) -> None:
    given = prompts(100)
    job = job_over(tmp_path, given)
    summary = run(job, open_engine=Slow(tmp_path))
    assert (summary.outcome, summary.exit_code, summary.rows_done) == ("finished", 0, 100)
    assert answers(job) == right_answers(given)
