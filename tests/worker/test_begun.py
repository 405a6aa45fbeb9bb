"""Output folders that an earlier version began are finished with the same rows."""

import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rgpipeline.engine.factory import open_engine
from rgpipeline.jobfile import load_job
from rgpipeline.output import open_output
from rgpipeline.plan import open_or_create
from rgpipeline.records import WorkerReport
from rgpipeline.storage.store import open_store
from tests.worker.planned_jobs import Given, finish

BEGUN = Path(__file__).parent.parent / "golden" / "begun"
MODIFIED_S = 1_700_000_000  # prompts.jsonl, when the jobs were planned


def resumed(task: str, folder: Path) -> tuple[pa.Table, WorkerReport]:
    """All rows of a begun job once it is finished, in order; the report of who finished it."""
    for name in ("prompts.jsonl", f"{task}.yaml"):
        shutil.copy(BEGUN / name, folder)
    os.utime(folder / "prompts.jsonl", (MODIFIED_S, MODIFIED_S))
    shutil.copytree(BEGUN / task, folder / task)
    begun = {path: path.read_bytes() for path in (folder / task).glob("part-*")}
    job = load_job(f"{task}.yaml")
    store = open_store(job.output.path)
    given = Given(job, open_or_create(job, store), store, folder / task)
    report = finish(given.worker(open_engine=open_engine), given.assignments)
    assert report.error is None
    assert all(path.read_bytes() == data for path, data in begun.items())
    assert given.snapshots() == []
    prefix = job.output.prefix
    order = [(name, "ascending") for name in ("n", f"{prefix}sample", f"{prefix}segment")]
    return open_output(task).to_table().sort_by(order), report


def test_a_generate_job_goes_on_from_its_parts_and_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    begun = open_output(str(BEGUN / "generate")).to_table()
    rows, report = resumed("generate", tmp_path)
    expected = pq.read_table(BEGUN / "generate.parquet")
    assert rows.replace_schema_metadata().equals(expected)
    tokens = [sum(table["completion_tokens"].to_pylist()) for table in (begun, expected)]
    # The snapshot of row 5 was taken 12 tokens after the end of its published segment.
    assert report.completion_tokens == tokens[1] - tokens[0] - 12


def test_a_score_job_goes_on_from_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows, report = resumed("score", tmp_path)
    expected = pq.read_table(BEGUN / "score.parquet")
    assert rows.schema.remove_metadata() == expected.schema
    floats = ["s_logprob", "s_perplexity", "s_token_logprobs"]  # another CPU may round them
    assert rows.drop_columns(floats).replace_schema_metadata().equals(expected.drop_columns(floats))
    for name in floats:
        found, wanted = (column.combine_chunks() for column in (rows[name], expected[name]))
        if name == "s_token_logprobs":
            found, wanted = found.flatten(), wanted.flatten()
        np.testing.assert_allclose(
            found.drop_null().to_numpy(), wanted.drop_null().to_numpy(), rtol=1e-5
        )
    assert report.rows_done == 16
