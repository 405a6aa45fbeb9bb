"""The driver's own end: killed, it is started again; two at once share the work."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from rgpipeline import run
from rgpipeline.dispatch.job_view import JobView
from rgpipeline.io.parts import part_names
from rgpipeline.output import read_heartbeat
from rgpipeline.spec import Job
from rgpipeline.storage.store import open_store
from tests.runtime.drivers import drive
from tests.runtime.engines import Slow
from tests.runtime.jobs import answers, job_over, prompts, right_answers


def wait_until_it_is_at_work(job: Job, driver: subprocess.Popen[bytes]) -> None:
    """It has said that it is there, and published some of the rows."""
    store = open_store(job.output.path)
    while read_heartbeat(store) is None or len(part_names(store)) < 2:
        assert driver.poll() is None, "the driver ended too soon"
        time.sleep(0.05)


@pytest.fixture
def address(cluster: None) -> str:
    import ray

    return str(ray.get_runtime_context().gcs_address)


@pytest.mark.parametrize(
    ("end", "code"),
    [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)],
    ids=["killed", "Ctrl-C"],
)
def test_a_job_goes_on_after_the_end_of_its_driver(
    tmp_path: Path, address: str, end: signal.Signals, code: int
) -> None:
    given = prompts(200)
    job = job_over(tmp_path, given)
    driver = drive(tmp_path, job, address)
    wait_until_it_is_at_work(job, driver)
    driver.send_signal(end)
    assert driver.wait() == code
    assert run(job, open_engine=Slow(tmp_path)).outcome == "finished"
    assert answers(job) == right_answers(given)


def test_two_drivers_share_the_work_and_say_so(tmp_path: Path, address: str) -> None:
    given = prompts(300)
    job = job_over(tmp_path, given)
    other = drive(tmp_path, job, address)
    wait_until_it_is_at_work(job, other)
    engine = Slow(tmp_path, crawling=True)
    seen: list[JobView] = []

    def watch(view: JobView) -> None:
        seen.append(view)
        engine.hurry()

    assert run(job, open_engine=engine, watch=watch).outcome == "finished"
    assert other.wait() == 0
    assert "another driver" in seen[0].warnings[0]
    assert answers(job) == right_answers(given)
