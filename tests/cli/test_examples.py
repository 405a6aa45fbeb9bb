"""The example jobs run as they are: nothing is wrong with any of them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from rgpipeline.validation.examination import examine

ROOT = Path(__file__).parents[2]
JOBS = sorted((ROOT / "jobs").glob("*.yaml"))
HERE = [path for path in JOBS if yaml.safe_load(path.read_text())["model"]["weights"] == "demo"]


def contents(folder: Path) -> dict[str, Any]:
    """Every file's lines, or rows."""
    return {
        path.name: pq.read_table(path).to_pylist()
        if path.suffix == ".parquet"
        else path.read_text().splitlines()
        for path in folder.iterdir()
    }


@pytest.mark.parametrize("path", HERE, ids=lambda path: path.stem)
def test_nothing_is_wrong_with_an_example(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    few = "engine.slots=1"  # of their rows, which are few, and told to be
    found = examine(path, [f"output.path={tmp_path / 'out'}", few])
    assert (found.faults, found.warnings) == ((), ())


def test_the_examples_data_is_what_the_tool_makes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "tools.example_data", tmp_path], cwd=ROOT, check=True)
    assert contents(tmp_path) == contents(ROOT / "jobs" / "data")
