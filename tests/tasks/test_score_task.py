"""`task: score`: which tokens are scored, and the output row of their log-probabilities."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rgpipeline.engine.checks import NO_NUMBERS
from rgpipeline.engine.text_requests import TextResult
from rgpipeline.errors import RowError
from rgpipeline.records import OutputRow
from rgpipeline.spec import Columns, Sampling
from rgpipeline.tasks.row_prompts import Prompts
from rgpipeline.tasks.score_task import ScoreTask
from rgpipeline.tasks.task import RowLabel, TextWork
from rgpipeline.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.load(str(Path(__file__).parent.parent / "golden" / "tokenizer"))
ROW = RowLabel(0, 3, "a", "in.parquet, row 4")


def work(values: dict[str, Any], logprobs: int = 0, **columns: str) -> TextWork:
    prompts = Prompts(Columns(**columns), Sampling(logprobs=logprobs), TOKENIZER)
    (one,) = ScoreTask().work(ROW, values, prompts)
    assert isinstance(one, TextWork)
    return one


def output_row(*logprobs: float, wanted: int = 0) -> OutputRow:
    ids = list(range(3, 4 + len(logprobs)))
    text = work({"ids": ids}, wanted, prompt_ids="ids")
    values = np.asarray(logprobs, np.float32)
    scored = TextResult(ROW.key(), len(logprobs), values, np.ones(values.shape, np.bool_))
    return text.output_row(text.row, scored)


def test_a_completion_is_scored_after_the_prompt_and_gets_no_beginning_of_text() -> None:
    one = work({"p": "In the", "c": "word"}, prompt="p", completion="c")
    given, scored = TOKENIZER.encode("In the"), TOKENIZER.encode("word", bos=False)
    assert (one.request.tokens.tolist(), one.request.first) == (given + scored, len(given))


def test_without_a_completion_the_prompt_is_scored() -> None:
    one = work({"ids": [5, 6, 7]}, prompt_ids="ids")
    assert (one.request.tokens.tolist(), one.request.first) == ([5, 6, 7], 1)


@pytest.mark.parametrize(
    ("value", "told"),
    [(None, "'c' is null"), (5, r"'c' holds an? \w+; text is needed"), (["a"], "text is needed")],
)
def test_a_completion_that_is_no_text_is_told_with_its_column(value: Any, told: str) -> None:
    with pytest.raises(RowError, match=told):
        work({"p": "In", "c": value}, prompt="p", completion="c")


def test_a_text_of_one_token_has_nothing_to_score() -> None:
    with pytest.raises(RowError, match="nothing to score"):
        work({"ids": [5]}, prompt_ids="ids")


def test_a_score_is_the_sum_and_the_perplexity_of_the_tokens() -> None:
    row = output_row(-1.0, -3.0)
    assert (row.final, row.prompt_tokens, row.completion_tokens) == (True, 1, 2)
    assert (row.result.tokens, row.result.logprob) == (2, -4.0)
    assert row.result.perplexity == pytest.approx(np.exp(2.0))
    assert len(row.result.token_logprobs) == 0


def test_token_logprobs_come_where_they_are_asked_for() -> None:
    assert output_row(-1.0, -3.0, wanted=1).result.token_logprobs.tolist() == [-1.0, -3.0]


def test_a_text_without_numbers_is_a_row_with_an_error() -> None:
    row = output_row(-1.0, np.nan, -2.0)
    assert row.error == f"in.parquet, row 4: {NO_NUMBERS}"
    assert (row.finish_reason, row.result, row.completion_tokens) == ("error", None, 0)


def test_a_text_that_the_model_holds_impossible_is_no_error() -> None:
    row = output_row(-1.0, -np.inf)
    assert (row.error, row.result.perplexity) == (None, np.inf)
