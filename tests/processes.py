"""Programs that need a process, and an environment, of their own."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]


def output_of(module: str, *arguments: str, environment: Mapping[str, str]) -> str:
    """What `python -m module` prints; what it says on standard error if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def end_with_us(
    process: "subprocess.Popen[bytes]", by: signal.Signals
) -> "subprocess.Popen[bytes]":
    """Has a server ended by a signal when this process ends, even if it is killed.

    Returns a process that waits for it: kill that one first to end the server otherwise. (The
    kernel's own signal for it, PR_SET_PDEATHSIG, comes at the end of the thread that started it.)
    """
    wait = ["sh", "-c", 'read _; kill -s "$0" "$1"', by.name[3:], str(process.pid)]
    return subprocess.Popen(wait, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
