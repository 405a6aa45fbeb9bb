"""Fewer sequences than slots are told, with what to set."""

from pathlib import Path
from typing import Any

import pytest

from rgpipeline.plan.resolved_settings import few_rows_warning, few_rows_warnings, record_settings
from rgpipeline.records import ResolvedSettings
from rgpipeline.storage.store import open_store
from tests.published import job_over


def job(tmp_path: Path, **sections: Any):
    return job_over(tmp_path, [{"prompt": "a"}], **sections)


@pytest.mark.parametrize(
    ("rows", "samples", "mesh", "fitting"), [(8, 1, 1, 8), (8, 3, 1, 24), (9, 1, 4, 12)]
)
def test_fewer_sequences_than_slots_are_told(tmp_path, rows, samples, mesh, fitting):
    few = job(tmp_path, sampling={"n": samples}, workers={"mesh": {"data": mesh}})
    told = few_rows_warning(few, rows, 64)
    assert told is not None
    assert f"engine.slots: {fitting} is faster" in told
    assert few_rows_warning(few, rows, rows * samples) is None


@pytest.mark.parametrize(
    ("slots", "rows", "told"),
    [
        ("auto", 8, "auto gives a worker 64 on a CPU"),
        ("auto", 64, None),
        (16, 8, "a worker has 16"),
        (8, 8, None),
    ],
)
def test_before_a_worker_is_there_the_job_tells(tmp_path, slots, rows, told):
    asked = job(tmp_path, engine={"slots": slots})
    found = few_rows_warnings(asked, rows, open_store(asked.output.path, {}))
    assert len(found) == (told is not None)
    assert (told or "") in "".join(found)


def test_what_earlier_workers_settled_on_is_known(tmp_path):
    begun = job(tmp_path)
    store = open_store(begun.output.path, {})
    record_settings(
        store, begun.engine, ResolvedSettings("float32", 256, 128, None), begun.workers.mesh
    )
    assert "a worker has 256" in few_rows_warnings(begun, 100, store)[0]


def test_texts_to_score_are_in_no_slot(tmp_path):
    scoring = job(tmp_path, task="score")
    assert few_rows_warning(scoring, 8, 64) is None
    assert few_rows_warnings(scoring, 8, open_store(scoring.output.path, {})) == []
