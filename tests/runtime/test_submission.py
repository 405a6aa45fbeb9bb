"""A job submitted to a cluster's dashboard, its rows in an S3 store."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
import yaml
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from rgpipeline import open_output
from rgpipeline.errors import JobError, RgpipelineError, UserError
from rgpipeline.output import JobFolder, read_status
from rgpipeline.output.job_folder import request_stop
from rgpipeline.runtime import submission
from rgpipeline.runtime.submission import submit
from tests.ports import free_ports
from tests.processes import end_with_us
from tests.storage.servers import Place

RAY = Path(sys.executable).with_name("ray")


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`ray start --head` on loopback, of an environment that isn't activated; its address."""
    port, agent, client = free_ports(3)
    scratch = tempfile.mkdtemp(prefix="rgp-ray")  # short: unix sockets lie in it
    command = [
        str(RAY), "start", "--head", "--block", "--node-ip-address=127.0.0.1", "--port=0",
        f"--dashboard-port={port}", "--dashboard-host=127.0.0.1", "--num-cpus=2",
        f"--temp-dir={scratch}", "--disable-usage-stats",
        f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}",
        f"--object-store-memory={80 << 20}",
    ]  # fmt: skip
    log = (tmp_path_factory.mktemp("head") / "log").open("wb")
    environment = os.environ | {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    started = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    guard = end_with_us(started, signal.SIGTERM)
    address = f"http://127.0.0.1:{port}"
    wait_for(address, started)
    yield address
    guard.kill()
    guard.wait()
    started.terminate()
    started.wait(240)
    shutil.rmtree(scratch, ignore_errors=True)


def wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        try:
            JobSubmissionClient(address)
            return
        except AuthenticationError:
            return  # it is up, and asks for a token
        except OSError:  # nobody listens, or not everything is there yet
            time.sleep(0.2)
    raise AssertionError("ray start has failed")


def write_job(folder: Path, place: Place, **sections: object) -> Path:
    job = {
        "model": {"weights": "demo"},
        "input": {"path": "demo", "limit": 64, "columns": {"prompt": "prompt", "id": "id"}},
        "output": {"path": place.url},
        "sampling": {"max_tokens": 400, "ignore_eos": True},
        "engine": {"slots": 8, "prefill_chunk": 16, "steps_per_dispatch": 4},
        "workers": {"accelerator": "cpu", "count": 1},
        "storage_options": place.storage_options,
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump({**job, **sections}))
    return path


# One sequence at a time, token by token: even a fast machine is not done before the stop.
UNHURRIED = ["engine.slots=1", "engine.steps_per_dispatch=1"]


def stop_when_running(place: Place, within_s: float = 240.0) -> None:
    """Asks the job to stop as soon as it runs. Raises TimeoutError if it does not run in time."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        with suppress(RgpipelineError):  # there is no plan yet, or its store is slow to answer
            folder = JobFolder.open(place.url, place.storage_options)
            if read_status(folder).state == "running":
                return request_stop(folder.store)
        time.sleep(0.2)
    raise TimeoutError(f"{place.url}: the job was not running within {within_s:.0f} s")


def test_a_submitted_job_is_stopped_and_goes_on(
    tmp_path: Path, head: str, new_place: Callable[[str], Place]
) -> None:
    place = new_place("seaweedfs")
    path = write_job(tmp_path, place)
    lines: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(stop_when_running, place)
        code = submit(path, UNHURRIED, head, wait=True, echo=lines.append)
        stopping.result()
    assert code == 130
    folder = JobFolder.open(place.url, place.storage_options)
    assert read_status(folder).state == "interrupted"
    assert submit(path, [], head, wait=True, echo=lines.append) == 0
    assert "Finished" in "".join(lines)
    assert open_output(place.url, place.storage_options).count_rows() == 64


class Unsteady:
    """A cluster that drops the first connection."""

    def __init__(self) -> None:
        self._answers = iter([requests.exceptions.ConnectionError("Connection aborted."), ENDED])

    def get_job_info(self, submission: str) -> SimpleNamespace:
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


ENDED = SimpleNamespace(status=JobStatus.FAILED, driver_exit_code=3)


def test_a_dropped_connection_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "_RETRY_S", 0.0)
    assert submission._exit_code(Unsteady(), "a job", print) == 3


def test_files_of_this_machine_are_refused(tmp_path: Path) -> None:
    path = write_job(tmp_path, Place("out/here", {}))
    with pytest.raises(JobError, match=r"output.path: out/here"):
        submit(path, [], "http://127.0.0.1:1", wait=True, echo=print)


def test_a_dashboard_that_does_not_answer_is_told(tmp_path: Path) -> None:
    path = write_job(tmp_path, Place(str(tmp_path / "out"), {}))
    with pytest.raises(UserError, match="no Ray dashboard that takes jobs answers there"):
        submit(path, [], "http://127.0.0.1:1", wait=True, echo=print)
