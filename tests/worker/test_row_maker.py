"""An assignment's rows as work for the engine."""

import pytest

from rgpipeline.model.weights.model_source import resolve_source
from rgpipeline.worker import row_maker
from rgpipeline.worker.row_maker import RowMaker
from rgpipeline.worker.shared import ActiveAssignment
from rgpipeline.worker.worker_setup import open_prompts
from tests.worker.planned_jobs import plan_job


def test_long_rows_come_last_and_alone(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_maker, "_LONG_ROW", 1000)
    texts = ["a", "b" * 2000, "c", "d" * 3000]
    given = plan_job(tmp_path, [{"text": text} for text in texts], columns={"prompt": "text"})
    prompts = open_prompts(given.job, given.plan, resolve_source(given.job.model))
    maker = RowMaker(given.job, given.plan, given.store, {}, prompts, lambda *_: None, "float32")
    (assignment,) = given.assignments
    batches = list(maker.batches(ActiveAssignment(assignment)))
    assert [[one.key.row for one in batch.work] for batch in batches] == [[0, 2], [1], [3]]
    assert [batch.last for batch in batches] == [False, False, True]
