"""The example jobs run as they are: nothing is wrong with any of them."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rgpipeline.validation import examine

ROOT = Path(__file__).parents[2]
JOBS = sorted((ROOT / "jobs").glob("*.yaml"))
HERE = [path for path in JOBS if yaml.safe_load(path.read_text())["model"]["weights"] == "demo"]


@pytest.mark.parametrize("path", HERE, ids=lambda path: path.stem)
def test_nothing_is_wrong_with_an_example(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    found = examine(path, [f"output.path={tmp_path / 'out'}"])
    assert (found.faults, found.warnings) == ((), ())


def test_the_examples_data_is_what_the_tool_makes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "tools.example_data", tmp_path], cwd=ROOT, check=True)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_bytes() for path in (ROOT / "jobs" / "data").iterdir()}
    assert made == kept
