"""The Dockerfile, and that every file names the image that it builds."""

import re
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.cluster.files import CLUSTER, ROOT, images, locked, version_of_package

DOCKERFILE = (CLUSTER / "Dockerfile").read_text()
INSTRUCTIONS = [
    line.split(maxsplit=1)
    for line in re.sub(r"^#.*\n", "", DOCKERFILE.replace("\\\n", " "), flags=re.M).splitlines()
    if line.strip()
]


def arguments(instruction: str) -> list[str]:
    return [rest for name, rest in INSTRUCTIONS if name == instruction]


def copied_from_the_repository() -> list[str]:
    words = [argument.split() for argument in arguments("COPY")]
    return [word for line in words for word in line[:-1] if not word.startswith("--")]


def test_image_runs_as_a_numbered_user_who_is_not_root():
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", arguments("USER")[-1])


def test_home_is_set_for_ray_up_to_find():
    assert any(line.startswith("HOME=") for line in arguments("ENV"))


@pytest.mark.parametrize("tool", ["wget", "rsync", "openssh-client"])
def test_tools_that_kuberay_and_ray_up_call_are_installed(tool: str):
    assert tool in DOCKERFILE.split("apt-get install")[1].split("&&")[0]


@pytest.mark.parametrize("path", copied_from_the_repository())
def test_what_is_copied_exists_and_reaches_the_builder(path: str):
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert (ROOT / path).exists()
    assert any(fnmatch(path, line[1:]) for line in ignored if line.startswith("!"))


def test_extras_of_the_examples_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    named = {
        name
        for names in re.findall(r"EXTRAS=([a-z0-9,]+)", DOCKERFILE)
        for name in names.split(",")
    }
    assert named == {"tpu", "cuda", "gcs", "s3"}
    assert named <= extras.keys()


def test_constraints_are_the_locks_versions():
    sed = re.search(r"sed -nE '[^']+' requirements.txt", DOCKERFILE)
    assert sed
    output = subprocess.run(
        ["bash", "-c", sed.group()], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    pinned = {Requirement(line).name: str(Requirement(line).specifier) for line in output.split()}
    assert len(pinned) > 50
    assert pinned["ray"] == f"=={locked('ray')}"
    assert pinned["jax"] == f"=={locked('jax')}"


@pytest.mark.parametrize(("path", "image"), images(), ids=lambda value: getattr(value, "stem", ""))
def test_image_is_this_version_for_that_accelerator(path: Path, image: str):
    name, tag = image.rsplit(":", 1)
    assert name in {"us-docker.pkg.dev/PROJECT_ID/rgpipeline/rgpipeline", "rgpipeline"}
    version, variant = tag.rsplit("-", 1)
    assert version == version_of_package()
    wanted = (
        "cuda" if "gpu" in path.stem else "cpu" if path.stem.endswith(("cpu", "kind")) else "tpu"
    )
    assert variant == wanted
