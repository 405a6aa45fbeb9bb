"""The locks: requirements.txt runs the package, requirements-dev.txt also its tests and tools."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = ("requirements.txt", "requirements-dev.txt")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def locked(name: str) -> dict[str, str]:
    """Each package's entry: its version, marker and hashes."""
    entries = (ROOT / name).read_text().replace("\\\n", " ").splitlines()
    return {canonicalize_name(re.split(r"[\[=]", entry)[0]): entry for entry in entries}


def names(*extras: str) -> set[str]:
    """What the package asks for, itself and with these extras."""
    optional = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *(one for extra in extras for one in optional[extra])]
    return {canonicalize_name(Requirement(one).name) for one in wanted}


def test_what_runs_the_package_is_a_part_of_what_its_tests_need() -> None:
    assert locked("requirements.txt").items() < locked("requirements-dev.txt").items()


def test_what_runs_the_package_has_its_stores_and_no_tools() -> None:
    runtime = locked("requirements.txt").keys()
    assert names("s3", "gcs", "hf", "build") <= runtime
    assert not {"libtpu", "lm-eval", "mkdocs", "moto", "mypy", "pytest", "ruff"} & runtime
    assert names("dev", "eval") <= locked("requirements-dev.txt").keys()


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_has_one_version_and_hashes(lock: str) -> None:
    for entry in locked(lock).values():
        assert re.match(r"[a-z0-9._-]+(\[[a-z0-9,-]+\])?==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


@pytest.mark.parametrize("lock", LOCKS)
def test_no_index_and_no_host_is_named(lock: str) -> None:
    assert not re.search(
        r"://|--(extra-)?index|--find-links|--trusted-host", (ROOT / lock).read_text()
    )
