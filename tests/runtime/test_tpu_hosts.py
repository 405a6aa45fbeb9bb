"""TPU hosts, in name: real raylets on this machine, made-up chips; they come, die and drain."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray._raylet import GcsClient
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from tests.runtime.conftest import ROOT
from tests.runtime.drivers import drive
from tests.runtime.engines import Slow
from tests.runtime.jobs import answers, job_over, prompts, right_answers

FAST_HEALTH_CHECKS = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 3,
    "health_check_timeout_ms": 500,
}


class Hosts:
    """Hosts of a v6e-16 slice: four chips each."""

    def __init__(self) -> None:
        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "_system_config": FAST_HEALTH_CHECKS},
        )
        self.address = self._cluster.address

    def add(self) -> Any:
        return self._cluster.add_node(
            num_cpus=1,
            resources={"TPU": 4, "accelerator_type:TPU-V6E": 1},
            labels={"ray.io/tpu-topology": "4x4", "ray.io/tpu-pod-type": "v6e-16"},
            env_vars={"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
            object_store_memory=80 << 20,
        )

    def kill(self, host: Any) -> None:
        """The host's raylet alone: its worker lives on, and nobody is told."""
        os.kill(host.all_processes["raylet"][0].process.pid, signal.SIGKILL)

    def drain(self, host: Any) -> None:
        """The notice that a spot host gets before it is taken."""
        reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        deadline = int(time.time() * 1000) + 60_000
        accepted, _ = GcsClient(address=self.address).drain_node(
            host.node_id, reason, "taken", deadline
        )
        assert accepted

    def shutdown(self) -> None:
        self._cluster.shutdown()


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
    wait_until(lambda: len(engine.processes()) == 1, driver)
    hosts.add()
    third = hosts.add()
    wait_until(lambda: len(engine.processes()) == 3, driver)
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
