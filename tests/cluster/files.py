"""The files of `cluster/`, read; and what they are checked against."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
JOBS = ROOT / "jobs"
SCHEMAS = Path(__file__).parent / "schemas"

AUTOSCALER = sorted((CLUSTER / "autoscaler").glob("*.yaml"))
RAY_JOBS = sorted((CLUSTER / "kuberay").glob("rayjob-*.yaml"))
RAY_CLUSTERS = sorted((CLUSTER / "kuberay").glob("raycluster-*.yaml"))


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def cluster_spec(path: Path) -> dict[str, Any]:
    """The RayClusterSpec of a RayJob or a RayCluster."""
    spec = read(path)["spec"]
    return spec.get("rayClusterSpec", spec)


def pods(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and pod spec of the head and of every worker group."""
    spec = cluster_spec(path)
    yield "head", spec["headGroupSpec"]["template"]["spec"]
    for group in spec["workerGroupSpecs"]:
        yield group["groupName"], group["template"]["spec"]


def images() -> Iterator[tuple[Path, str]]:
    """Every image that a file names, with the file."""
    for path in AUTOSCALER:
        yield path, read(path)["docker"]["image"]
    for path in RAY_JOBS + RAY_CLUSTERS:
        for _, pod in pods(path):
            yield path, pod["containers"][0]["image"]


def version_of_package() -> str:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def locked(package: str) -> str:
    """The version of `package` in requirements.txt."""
    found = re.search(
        rf"^{package}(?:\[.*\])?==(\S+)", (ROOT / "requirements.txt").read_text(), re.M
    )
    assert found, f"{package} is not locked"
    return found.group(1)
