"""One Ray cluster for all tests here: four cores in name, workers that find the tests' engines."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from rgpipeline.runtime.ray_internals import enable_token_auth

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="package")
def cluster() -> Iterator[None]:
    path, before = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]), dict(os.environ)
    settings = {"RAY_health_check_period_ms": "500", "RAY_memory_monitor_refresh_ms": "0"}
    os.environ |= {"PYTHONPATH": path, **settings}
    command = [sys.executable, "-m", "tests.runtime.head"]
    head = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert head.stdin is not None
    assert head.stdout is not None
    address = head.stdout.readline().decode().strip()
    assert address, "the cluster did not start"
    enable_token_auth()  # the head has made one
    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()
    head.stdin.close()
    head.wait()
    os.environ.clear()
    os.environ.update(before)
