"""One Ray cluster for all tests here: four cores in name, workers that find the tests' engines."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="package")
def cluster() -> Iterator[None]:
    path, before = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]), dict(os.environ)
    os.environ |= {"PYTHONPATH": path, "RAY_health_check_period_ms": "500"}
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=80 << 20,
        log_to_driver=False,
        logging_level="ERROR",
        _system_config={"metrics_report_interval_ms": 500},
    )
    yield
    ray.shutdown()
    os.environ.clear()
    os.environ.update(before)
