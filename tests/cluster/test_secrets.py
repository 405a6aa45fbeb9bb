"""Nothing that is handed out holds a secret."""

import re
from pathlib import Path

import pytest

from tests.cluster.files import CLUSTER, JOBS, RAY_CLUSTERS, RAY_JOBS, pods

TEXTS = [
    pytest.param(path, id=path.name)
    for path in sorted([*CLUSTER.rglob("*"), *JOBS.glob("*")])
    if path.is_file()
]
# Keys as Amazon, Google and GitHub write them, private keys, and passwords given a value.
SECRET = re.compile(
    r"AKIA[0-9A-Z]{16}|AIza[0-9A-Za-z_-]{35}|gh[pousr]_\w{36}|BEGIN [A-Z ]*PRIVATE KEY"
    r"|(?:secret|password|token|access_key)\w*\s*[:=]\s*['\"]?[A-Za-z0-9+/]{16,}",
    re.IGNORECASE,
)


@pytest.mark.parametrize("path", TEXTS)
def test_no_secret_is_inside(path: Path):
    assert not SECRET.search(path.read_text())


@pytest.mark.parametrize("path", RAY_JOBS + RAY_CLUSTERS, ids=lambda path: path.stem)
def test_secrets_reach_pods_by_name_only(path: Path):
    for _, pod in pods(path):
        for variable in pod["containers"][0].get("env", []):
            assert not re.search("KEY|SECRET|TOKEN", variable["name"]), variable
        for source in pod["containers"][0].get("envFrom", []):
            assert source == {"secretRef": {"name": "rgpipeline-s3", "optional": True}}
