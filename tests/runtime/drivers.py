"""Drivers in processes of their own, to be killed."""

import subprocess
import sys
from pathlib import Path

from rgpipeline.spec import Job
from tests.runtime.conftest import ROOT

_DRIVER = """
import sys
from pathlib import Path
from rgpipeline import run
from rgpipeline.spec import Job
from tests.runtime.engines import Slow
folder, address = Path(sys.argv[1]), sys.argv[2]
job = Job.model_validate_json((folder / "job.json").read_text())
sys.exit(run(job, address=address, open_engine=Slow(folder, crawling=True)).exit_code)
"""


def drive(folder: Path, job: Job, address: str) -> subprocess.Popen[bytes]:
    """Runs `job` with slow engines that crawl until told to hurry; its exit code is the job's."""
    (folder / "job.json").write_text(job.model_dump_json())
    command = [sys.executable, "-c", _DRIVER, str(folder), address]
    return subprocess.Popen(command, cwd=ROOT)
