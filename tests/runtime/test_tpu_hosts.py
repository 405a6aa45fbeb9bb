"""TPU hosts, in name: real raylets on this machine, made-up chips; they come, die and drain."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ray._raylet import GcsClient
from ray.core.generated import autoscaler_pb2

from tests.runtime.conftest import ROOT
from tests.runtime.drivers import drive
from tests.runtime.engines import Slow
from tests.runtime.jobs import answers, job_over, prompts, right_answers


@dataclass(frozen=True)
class Host:
    """One of a slice, as `tests.runtime.slice` tells of it."""

    id: str
    raylet: int


class Hosts:
    """The slice, which has no hosts at first."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.runtime.slice"]
        self._slice = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.address = self._told().strip()

    def add(self) -> Host:
        assert self._slice.stdin is not None
        self._slice.stdin.write("add\n")
        self._slice.stdin.flush()
        return Host(**json.loads(self._told()))

    def kill(self, host: Host) -> None:
        """The host's raylet alone: its worker lives on, and nobody is told."""
        os.kill(host.raylet, signal.SIGKILL)

    def drain(self, host: Host) -> None:
        """The notice that a spot host gets before it is taken."""
        reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        deadline = int(time.time() * 1000) + 60_000
        accepted, _ = GcsClient(address=self.address).drain_node(host.id, reason, "taken", deadline)
        assert accepted

    def shutdown(self) -> None:
        assert self._slice.stdin is not None
        self._slice.stdin.close()
        self._slice.wait()

    def _told(self) -> str:
        assert self._slice.stdout is not None
        return self._slice.stdout.readline()


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    made = Hosts()
    yield made
    made.shutdown()


def wait_until(condition: Callable[[], bool], driver: subprocess.Popen[bytes]) -> None:
    while not condition():
        assert driver.poll() is None, "the driver ended too soon"
        time.sleep(0.1)


def test_hosts_join_die_and_drain_and_the_table_is_exact(tmp_path: Path, hosts: Hosts) -> None:
    given, engine = prompts(200), Slow(tmp_path)
    job = job_over(tmp_path, given, workers={"accelerator": "tpu"})
    first = hosts.add()
    driver = drive(tmp_path, job, hosts.address)
    wait_until(lambda: len(engine.processes()) > 0, driver)
    hosts.add()
    third = hosts.add()
    wait_until(lambda: len(engine.processes()) > 2, driver)
    hosts.kill(first)
    hosts.drain(third)
    engine.hurry()
    assert driver.wait() == 0
    assert answers(job) == right_answers(given)


def test_a_worker_on_one_host_of_a_slice_sees_its_own_chips(tmp_path: Path, hosts: Hosts) -> None:
    hosts.add()
    job = job_over(tmp_path, prompts(8), workers={"accelerator": "tpu"})
    assert drive(tmp_path, job, hosts.address).wait() == 0
    seen = Slow(tmp_path).environments()[0]
    assert seen["TPU_PROCESS_BOUNDS"] == "1,1,1"
    assert seen["TPU_CHIPS_PER_PROCESS_BOUNDS"] == "2,2,1"
    assert seen["TPU_VISIBLE_CHIPS"] == "0,1,2,3"
