"""Whole jobs on Ray: each row once, whatever happens to workers and drivers."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from rgpipeline import run
from rgpipeline.dispatch.job_view import JobView
from rgpipeline.errors import OutputError
from rgpipeline.output.job_folder import request_stop
from rgpipeline.runtime.ray_workers import require_same_output
from rgpipeline.storage.store import open_store
from tests import published
from tests.runtime.engines import Slow, broken, unopenable
from tests.runtime.jobs import answers, job_over, prompts, right_answers

pytestmark = pytest.mark.usefixtures("cluster")


Watch = Callable[[JobView], None]


def once(condition: Callable[[JobView], bool], action: Callable[[], None]) -> Watch:
    """A `watch` that acts the first time that the condition holds."""
    acted: list[JobView] = []

    def watch(view: JobView) -> None:
        if not acted and condition(view):
            acted.append(view)
            action()

    return watch


def some_rows_are_done(view: JobView) -> bool:
    return view.rows_done >= 16


def send(engine: Slow, kind: signal.Signals) -> None:
    """To the first worker's process."""
    os.kill(engine.processes()[0], kind)


def test_every_row_is_answered_once(tmp_path: Path) -> None:
    given = prompts(100)
    job = job_over(tmp_path, given)
    seen: list[JobView] = []
    summary = run(job, open_engine=Slow(tmp_path), watch=seen.append)
    assert (summary.outcome, summary.exit_code, summary.rows_done) == ("finished", 0, 100)
    assert answers(job) == right_answers(given)
    (told,) = seen[-1].warnings  # by both workers
    assert told.startswith("the model has 10,000 tokens, its tokenizer 2,048: ")


@pytest.mark.parametrize(
    ("loss", "faults"),
    [(signal.SIGKILL, {}), (signal.SIGSTOP, {"worker_timeout_s": 5.0})],
    ids=["killed", "hung"],
)
def test_rows_of_a_lost_worker_are_done_by_its_replacement(
    tmp_path: Path, loss: signal.Signals, faults: dict[str, float]
) -> None:
    given, engine = prompts(200), Slow(tmp_path, crawling=True)
    job = job_over(tmp_path, given, faults=faults)
    lose = once(some_rows_are_done, lambda: send(engine, loss))
    replaced = once(lambda _: len(engine.processes()) > 2, engine.hurry)

    def watch(view: JobView) -> None:
        lose(view)
        replaced(view)

    assert run(job, open_engine=engine, watch=watch).outcome == "finished"
    assert len(engine.processes()) > 2
    assert answers(job) == right_answers(given)


def test_a_worker_whose_host_sends_it_away_publishes_and_leaves(tmp_path: Path) -> None:
    given, engine = prompts(200), Slow(tmp_path, crawling=True)
    job = job_over(tmp_path, given)
    seen: list[JobView] = []

    def dismiss() -> None:
        send(engine, signal.SIGTERM)
        engine.hurry()

    leave = once(some_rows_are_done, dismiss)

    def watch(view: JobView) -> None:
        seen.append(view)
        leave(view)

    assert run(job, open_engine=engine, watch=watch).outcome == "finished"
    assert seen[-1].deaths == 0
    assert answers(job) == right_answers(given)


def test_a_stopped_job_goes_on_where_it_was(tmp_path: Path) -> None:
    given, stop, engine = prompts(200), threading.Event(), Slow(tmp_path, crawling=True)
    job = job_over(tmp_path, given)
    first = run(job, open_engine=engine, stop=stop, watch=once(some_rows_are_done, stop.set))
    assert (first.outcome, first.exit_code) == ("interrupted", 130)
    assert 16 <= first.rows_done < 200
    second = run(job, open_engine=Slow(tmp_path))
    assert second.outcome == "finished"
    assert answers(job) == right_answers(given)


def test_prompts_that_were_templated_already_are_told_as_the_run_begins(tmp_path: Path) -> None:
    texts = [{"prompt": "In"}, {"prompt": "<bos><start_of_turn>user\nHi"}]
    job = published.job_over(tmp_path, texts, workers={"accelerator": "cpu", "count": 1})
    stop, seen = threading.Event(), []

    def watch(view: JobView) -> None:
        seen.append(view)
        stop.set()

    assert run(job, open_engine=Slow(tmp_path), stop=stop, watch=watch).outcome == "interrupted"
    (told,) = [text for text in seen[-1].warnings if "a chat template had been applied" in text]
    assert told.startswith("1 of all 2 rows have a prompt that looks as if")


def test_a_stop_asked_for_in_the_output_is_heard(tmp_path: Path) -> None:
    job, engine = job_over(tmp_path, prompts(200)), Slow(tmp_path, crawling=True)
    ask = once(some_rows_are_done, lambda: request_stop(open_store(job.output.path)))
    assert run(job, open_engine=engine, watch=ask).outcome == "interrupted"


def test_a_finished_job_starts_no_worker(tmp_path: Path) -> None:
    job = job_over(tmp_path, prompts(8))
    run(job, open_engine=Slow(tmp_path))
    again = run(job, open_engine=unopenable)
    assert (again.outcome, again.already_done, again.generated_tokens) == ("finished", True, 0)


def test_a_row_that_kills_its_workers_becomes_an_error(tmp_path: Path) -> None:
    given = prompts(48)
    given[20] = [9, 9, 9]
    job = job_over(tmp_path, given)
    summary = run(job, open_engine=Slow(tmp_path, 0.001, poisoned=True))
    assert (summary.outcome, summary.exit_code, summary.rows_failed) == ("finished", 3, 1)
    right = right_answers(given)
    assert answers(job) == [*right[:20], ("row-20", None), *right[21:]]


def test_a_users_mistake_found_by_a_worker_is_told_as_such(tmp_path: Path) -> None:
    summary = run(job_over(tmp_path, prompts(8)), open_engine=unopenable)
    assert (summary.outcome, summary.exit_code) == ("failed", 2)
    assert summary.message == "weights: no such folder"


def test_workers_that_cannot_start_end_the_job_with_their_own_words(tmp_path: Path) -> None:
    summary = run(job_over(tmp_path, prompts(8)), open_engine=broken)
    assert (summary.outcome, summary.exit_code) == ("failed", 1)
    assert summary.message.endswith("RuntimeError: no driver for this device")
    assert summary.message.startswith("no worker can start, tried 2 times")


def test_paths_are_taken_from_where_the_driver_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = job_over(tmp_path, prompts(8), output={"path": "here", "token_ids": True})
    assert run(job, open_engine=Slow(tmp_path)).outcome == "finished"
    assert (tmp_path / "here" / "_SUCCESS").exists()


def test_a_host_that_sees_another_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="a disk that all hosts share"):
        require_same_output(open_store(str(tmp_path)))
