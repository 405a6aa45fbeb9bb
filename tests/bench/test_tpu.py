"""`make bench-tpu`, where there is no TPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

SMALL = Path(__file__).parents[1] / "golden/a/hf"
ENVIRONMENT = {**os.environ, "JAX_PLATFORMS": "cpu"}


def bench_tpu(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.tpu", *arguments]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def test_without_a_tpu_it_says_so_and_what_to_do() -> None:
    done = bench_tpu()

    assert done.returncode == 2
    assert done.stderr.startswith("no TPU here: jax runs on cpu")


def test_what_it_measures_is_measured_on_any_device_that_is_asked_for() -> None:
    done = bench_tpu("--any-device", "--model", str(SMALL), "--slots", "4", "--seconds", "0.1")

    measured = json.loads(done.stdout.splitlines()[0])
    assert measured["slots"] == 4
    assert measured["decode"] > 0
    assert measured["prefill"] > 0
