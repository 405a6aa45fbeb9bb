"""A job's tokens, counted from its input, and how long they take at the bounds."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rgpipeline.errors import UserError
from rgpipeline.fit.job_estimate import JobEstimate, Work, count_work, job_request
from rgpipeline.jobfile import parse_job
from rgpipeline.spec import Job
from tests.fit.test_fit_report import REPORT


def job(tmp_path: Path, rows: list[dict[str, Any]], **sections: Any) -> Job:
    """A job over these rows, whose prompts are token ids."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"prompt_ids": "ids", "sampling": "sampling"}
    fields = {
        "model": {"weights": "demo"},
        "input": {"path": str(path), "columns": columns},
        "output": {"path": str(tmp_path / "out")},
        **sections,
    }
    return parse_job(fields, "job.yaml")


def row(length: int, **sampling: Any) -> dict[str, Any]:
    return {"ids": [2] * length, "sampling": sampling or None}


def test_the_adapter_is_asked_for_too(tmp_path: Path) -> None:
    model = {"weights": "gs://base", "adapter": "gs://lora"}
    request = job_request(job(tmp_path, [row(1)], model=model), "v5e:1x1x1")
    asked = request.model
    assert (asked.weights, asked.adapter, asked.base) == ("gs://base", "gs://lora", None)


def test_a_prompt_counts_once_and_every_sample_of_it_in_full(tmp_path: Path) -> None:
    rows = [row(5), row(7, max_tokens=3, n=1)]

    work = count_work(job(tmp_path, rows, sampling={"max_tokens": 10, "n": 2}))

    assert work == Work(2, 2, prompt_tokens=12, completion_tokens=23, unlimited=False)


def test_a_large_input_is_counted_from_rows_all_over_it(tmp_path: Path) -> None:
    rows = [row(1 + index % 7) for index in range(5_000)]

    work = count_work(job(tmp_path, rows, sampling={"max_tokens": 1}))

    assert work.rows_counted < 2_000
    assert work.completion_tokens == 5_000
    assert work.prompt_tokens == pytest.approx(5_000 * 4, rel=0.05)


def test_rows_without_a_limit_are_told(tmp_path: Path) -> None:
    assert count_work(job(tmp_path, [row(5)], sampling={"max_tokens": None})).unlimited


def test_an_input_without_a_usable_row_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the first fault: 'ids' is an empty list"):
        count_work(job(tmp_path, [{"ids": [], "sampling": None}]))


def test_time_is_tokens_over_the_bounds_of_all_chips() -> None:
    work = Work(10, 10, prompt_tokens=400_000, completion_tokens=256_000, unlimited=False)

    estimate = JobEstimate(work, replace(REPORT, mesh=(4, 1)), hosts=(2,))

    assert estimate.chip_seconds == 400_000 / 40_000 + 256_000 / 25_600
    assert estimate.seconds_on(2) == estimate.chip_seconds / 8


def test_a_jobs_mesh_fills_the_chips(tmp_path: Path) -> None:
    asked = job(tmp_path, [row(5)], workers={"mesh": {"model": 2}})

    assert job_request(asked, "v5e:2x4").mesh == (4, 2)
    with pytest.raises(UserError, match=r"workers\.mesh\.model: 2 does not divide the 1 chips"):
        job_request(asked, "v5e:1x1x1")
