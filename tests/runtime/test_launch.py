"""What `run` takes for a job; no cluster is needed where nothing is left to do."""

from pathlib import Path

import pytest
import yaml

from rgpipeline import run
from rgpipeline.errors import JobError, UserError
from tests.published import done, job_over, publish


@pytest.mark.parametrize("kind", [str, Path])
def test_the_path_of_a_job_file_is_as_good_as_its_job(tmp_path: Path, kind: type) -> None:
    job = job_over(tmp_path, [{"prompt": "a"}])
    publish(job, lambda number, row: [done(str(number))])
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job.model_dump(mode="json", exclude_defaults=True)))
    summary = run(kind(path))
    assert (summary.already_done, summary.output) == (True, job.output.path)


def test_a_job_file_that_is_not_there_is_named() -> None:
    with pytest.raises(JobError, match=r"nope\.yaml: no such file"):
        run("nope.yaml")


def test_what_is_no_job_is_told() -> None:
    with pytest.raises(UserError, match=r"run takes a job .* found dict"):
        run({"model": {"weights": "demo"}})  # type: ignore[arg-type]
