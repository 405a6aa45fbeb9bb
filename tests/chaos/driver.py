"""A driver in a process of its own: `python -m tests.chaos.driver JOB.json ADDRESS FOLDER HOW`."""

import sys
from pathlib import Path

from rgpipeline import run
from rgpipeline.spec import Job
from tests.chaos.engines import Tracked


def main() -> int:
    job, address, folder, how = sys.argv[1:]
    summary = run(
        Job.model_validate_json(Path(job).read_text()),
        address=address,
        open_engine=Tracked(Path(folder), how == "hand"),
    )
    if summary.outcome != "finished":
        print(f"{summary.outcome}: {summary.message}", file=sys.stderr)
    return summary.exit_code


if __name__ == "__main__":
    sys.exit(main())
