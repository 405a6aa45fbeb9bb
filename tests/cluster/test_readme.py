"""The README's commands name files and commands that exist, and the shell can read them."""

import re
import subprocess

import pytest

from tests.cluster.files import AUTOSCALER, CLUSTER, JOBS, RAY_CLUSTERS, RAY_JOBS, ROOT

TEXT = (CLUSTER / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = {
    "run",
    "submit",
    "status",
    "stop",
    "report",
    "cat",
    "generate",
    "fit",
    "validate",
    "retry",
}


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_block_is_shell(block: str):
    subprocess.run(["bash", "-n"], input=block, text=True, check=True)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\b(?:cluster|jobs)/[\w./-]+\w", TEXT))))
def test_named_file_exists(path: str):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("path", AUTOSCALER + RAY_JOBS + RAY_CLUSTERS, ids=lambda path: path.stem)
def test_every_file_is_in_a_table(path):
    assert f"| `{path.relative_to(CLUSTER)}`" in TEXT


def test_commands_are_those_of_rgpipeline():
    used = set(re.findall(r"^rgpipeline (\w+)", "\n".join(BLOCKS), re.MULTILINE))
    assert used
    assert used <= COMMANDS


def test_placeholders_of_the_job_files_are_filled():
    for path in JOBS.glob("*-gcs.yaml"):
        assert f"jobs/{path.name}" in next(b for b in BLOCKS if "s/YOUR_BUCKET/" in b)
