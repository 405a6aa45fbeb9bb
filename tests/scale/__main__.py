"""`python -m tests.scale`: a million rows planned and committed, ten thousand files planned."""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.scale.measures import Figures, done, job_over, planned, write_input
from tests.storage.seaweed import environment, seaweed
from tests.storage.servers import Place

ROOT = Path(__file__).parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _parse(arguments)
    os.environ |= environment()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        folder = Path(name)
        _tell("many rows", _many_rows(folder, asked.rows, asked.workers))
        if asked.files:
            _tell("many files", _many_files(folder / "local", asked.files))
        if asked.files and asked.store:
            with seaweed(folder / "store") as server:
                place = Place(server.url("in"), server.storage_options)
                write_input(place, 10 * asked.files, asked.files)
                _tell("many files on S3", planned(job_over(place, folder)))
    return 0


def _many_rows(folder: Path, rows: int, workers: int) -> Figures:
    place = Place(str(folder / "rows"), {})
    write_input(place, rows, 8)
    job = job_over(place, folder, workers)
    return {**planned(job), **done(job, folder)}


def _many_files(folder: Path, files: int) -> Figures:
    place = Place(str(folder / "in"), {})
    write_input(place, 10 * files, files)
    return planned(job_over(place, folder))


def _tell(what: str, figures: Figures) -> None:
    print(json.dumps({"what": what, **figures}), flush=True)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.scale", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--store", action="store_true", help="plan the files on a real S3 too")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
