"""Programs that need a process, and an environment, of their own."""

import os
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
