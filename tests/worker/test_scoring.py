"""From a text's log-probabilities to its output row."""

import numpy as np

from rgpipeline.engine.checks import NO_NUMBERS
from rgpipeline.worker.shared import ToScore
from rgpipeline.worker.text_scores import scored_row


def test_a_text_without_numbers_is_a_row_with_an_error() -> None:
    text = ToScore(3, "a", np.arange(4, dtype=np.int32), 1, "in.parquet, row 4")
    row = scored_row(text, np.asarray([-1.0, np.nan, -2.0], np.float32))
    assert row.error == f"in.parquet, row 4: {NO_NUMBERS}"
    assert (row.finish_reason, row.score) == ("error", None)


def test_a_text_that_the_model_holds_impossible_is_no_error() -> None:
    text = ToScore(3, "a", np.arange(3, dtype=np.int32), 1, "in.parquet, row 4")
    assert scored_row(text, np.asarray([-1.0, -np.inf], np.float32)).error is None
