"""Paths as the workers get them, whose working directory is another than the driver's."""

from pathlib import Path

import pytest

from rgpipeline.jobfile import parse_job
from rgpipeline.runtime.ray_workers import with_absolute_paths
from rgpipeline.spec import Job


def job(weights: str, output: str) -> Job:
    sections = {"model": {"weights": weights}, "input": {"path": "in"}, "output": {"path": output}}
    return with_absolute_paths(parse_job(sections, "job"))


def test_relative_paths_and_home_folders_are_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/she")
    found = job("weights", "~/out")
    assert (found.model.weights, found.output.path) == (f"{tmp_path}/weights", "/home/she/out")


def test_other_addresses_stay_as_they_are() -> None:
    for url in ("demo", "hf://owner/name", "/weights"):
        assert job(url, "gs://b/out").model.weights == url
