"""A small measure of what `make scale` does in full: memory does not grow with the rows."""

import json
import subprocess
import sys

import pytest

from tests.scale.__main__ import ROOT

Figures = dict[str, int]


@pytest.fixture(scope="module")
def told() -> dict[str, Figures]:
    command = [sys.executable, "-m", "tests.scale", "--rows", "20000", "--files", "300"]
    done = subprocess.run([*command, "--workers", "1"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line["what"]: line for line in lines}


def test_every_row_is_committed_once(told: dict[str, Figures]) -> None:
    rows = told["many rows"]
    assert (rows["rows"], rows["different_rows"], rows["wrong_rows"]) == (20_000, 20_000, 0)


def test_memory_stays_what_it_was_early_on(told: dict[str, Figures]) -> None:
    rows = told["many rows"]
    assert rows["worker_mib"] - rows["worker_mib_early"] < 64
    assert rows["driver_mib"] - rows["driver_mib_before"] < 96


def test_small_files_share_shards(told: dict[str, Figures]) -> None:
    files = told["many files"]
    assert (files["files"], files["rows"], files["shards"]) == (300, 3000, 188)
