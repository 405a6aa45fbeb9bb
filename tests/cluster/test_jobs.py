"""The example job files."""

from pathlib import Path

import pytest

from rgpipeline.spec import Job
from tests.cluster.files import JOBS, read

FILES = [pytest.param(path, id=path.stem) for path in sorted(JOBS.rglob("*.yaml"))]


@pytest.mark.parametrize("path", FILES)
def test_job_file_is_valid(path: Path):
    Job.model_validate(read(path))


@pytest.mark.parametrize(
    ("name", "accelerator", "output"),
    [
        ("tpu-gcs", "tpu", "gs://"),
        ("gpu-gcs", "gpu", "gs://"),
        ("cpu-s3", "cpu", "s3://"),
        ("kind", "cpu", "/data/"),
    ],
)
def test_job_file_does_what_its_name_says(name: str, accelerator: str, output: str):
    job = Job.model_validate(read(JOBS / f"{name}.yaml"))
    assert job.workers.accelerator == accelerator
    assert job.output.path.startswith(output)
