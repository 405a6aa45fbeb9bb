"""Workers that share a host are pinned to cores of their own, until they end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_WORKER = """
import os, sys
from rgpipeline.runtime.process_setup import take_cores
lock = take_cores([[core] for core in sorted(os.sched_getaffinity(0))][:2])
print(*os.sched_getaffinity(0), flush=True)
sys.stdin.read()
"""


class Worker:
    """A process that takes one of two cores, and keeps it until it is killed."""

    def __init__(self, scratch: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "TMPDIR": str(scratch)},
        )
        assert self._process.stdout is not None
        self.cores = self._process.stdout.readline().decode().split()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is but one core")
def test_each_has_its_own_and_a_killed_ones_is_free_again(tmp_path: Path) -> None:
    first, second = Worker(tmp_path), Worker(tmp_path)
    assert sorted([*first.cores, *second.cores]) == sorted(
        map(str, sorted(os.sched_getaffinity(0))[:2])
    )
    first.kill()
    third = Worker(tmp_path)
    second.kill()
    third.kill()
    assert third.cores == first.cores
