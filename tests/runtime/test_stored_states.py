"""States of a job on Ray whose worker is killed: one for each row, and none too many."""

import signal
from pathlib import Path

import pytest

from rgpipeline import run
from rgpipeline.io.state_files import load_state
from tests.runtime.engines import Slow
from tests.runtime.jobs import answers, job_over, prompts, right_answers, rows_of
from tests.runtime.test_run import once, send, some_rows_are_done

pytestmark = pytest.mark.usefixtures("cluster")


def test_after_a_kill_each_row_has_its_state_and_no_other_is_left(tmp_path: Path) -> None:
    given, engine, out = prompts(120), Slow(tmp_path, crawling=True), tmp_path / "out"
    output = {"path": str(out), "token_ids": True, "states": "last"}
    job = job_over(tmp_path, given, output=output)
    orphan = out / "_states" / "orphan.safetensors"

    def kill() -> None:
        orphan.write_bytes(b"of a row that was lost")
        send(engine, signal.SIGKILL)
        engine.hurry()

    summary = run(job, open_engine=engine, watch=once(some_rows_are_done, kill))
    assert summary.outcome == "finished"
    assert answers(job) == right_answers(given)
    rows = rows_of(job)
    for row in rows:
        written = len(row["ids"]) + len(row["completion_ids"])
        assert load_state(row["state"]).position == written
    assert {str(path) for path in (out / "_states").iterdir()} == {row["state"] for row in rows}
