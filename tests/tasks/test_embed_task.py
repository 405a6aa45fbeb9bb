"""`task: embed`: what is read of a row, and the output row of its embedding."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rgpipeline.engine.text_requests import TextResult
from rgpipeline.errors import RowError
from rgpipeline.jobfile import parse_job
from rgpipeline.records import OutputRow
from rgpipeline.spec import Columns, Sampling
from rgpipeline.tasks import added_columns, task_of
from rgpipeline.tasks.row_prompts import Prompts
from rgpipeline.tasks.task import RowLabel, TextWork

ROW = RowLabel(0, 3, "a", "in.parquet, row 4")


def job(**embed: Any) -> Any:
    facts = {"model": {"weights": "demo"}, "input": {"path": "in"}, "output": {"path": "out"}}
    return parse_job({"task": "embed", "embed": embed, **facts}, "job")


def work(ids: object, **embed: Any) -> TextWork:
    prompts = Prompts(Columns(prompt_ids="ids"), Sampling(), None)
    (one,) = task_of(job(**embed)).work(ROW, {"ids": ids}, prompts)
    assert isinstance(one, TextWork)
    return one


def output_row(*values: float, **embed: Any) -> OutputRow:
    pooled = TextResult(ROW.key(), 3, np.asarray(values, np.float32))
    return work([2, 5, 6], **embed).output_row(ROW, pooled)


def test_all_tokens_of_the_prompt_are_pooled() -> None:
    request = work([2, 5, 6], pooling="last").request
    assert (request.tokens.tolist(), request.first, request.pooling) == ([2, 5, 6], 3, "last")


def test_an_embedding_has_length_one_unless_the_job_says_otherwise() -> None:
    row = output_row(3.0, 4.0)
    np.testing.assert_allclose(row.result, [0.6, 0.8])
    assert (row.prompt_tokens, row.completion_tokens, row.error) == (3, 3, None)
    assert output_row(3.0, 4.0, normalize=False).result.tolist() == [3.0, 4.0]
    assert output_row(0.0, 0.0).result.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_the_rows_error(value: float) -> None:
    row = output_row(1.0, value)
    assert row.error is not None
    assert row.error.startswith("in.parquet, row 4: the model gives no numbers for it")
    assert row.result is None


def test_a_row_without_a_prompt_is_named() -> None:
    with pytest.raises(RowError, match="'ids' is null"):
        work(None)


def test_the_column_has_the_models_width_and_null_where_a_row_failed() -> None:
    rows = [output_row(3.0, 4.0), ROW.failed("no prompt")]
    table = added_columns(job()).table(rows)
    assert table["embedding"].type == pa.list_(pa.float32(), 2)
    assert table["embedding"].null_count == table["tokens"].null_count == 1
    assert table["tokens"].to_pylist() == [3, None]
