"""`task: score` over lists of completions: which of several texts follows a prompt best."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from rgpipeline.engine.text_requests import TextRequest, TextResult
from rgpipeline.errors import RowError
from rgpipeline.io.parts import ERROR, PROMPT_TOKENS, SEGMENT_COLUMNS, Column
from rgpipeline.records import OutputRow
from rgpipeline.spec import Job
from rgpipeline.tasks.generate_task import may_have_logprobs
from rgpipeline.tasks.row_prompts import Prompts
from rgpipeline.tasks.score_task import Score, ScoreTask, kept_logprobs, row_scores
from rgpipeline.tasks.task import RowLabel, RowWork, TextWork


class ChoiceTask(ScoreTask):
    """Scores each text of a row's list given the prompt, which is read once.

    Columns: id, sample, segment; tokens, logprob, perplexity and is_greedy, lists with an element
    for each text; best and best_sum, the index of the text with the greatest log-probability by
    token, and in sum (of equal ones the first); prompt_tokens, error; then, where asked,
    token_logprobs (list<list<float32>>).
    """

    def columns(self, job: Job) -> list[Column]:
        columns = [
            *SEGMENT_COLUMNS,
            _lists("tokens", pa.int64(), lambda score: score.tokens),
            _lists("logprob", pa.float64(), lambda score: score.logprob),
            _lists("perplexity", pa.float64(), lambda score: score.perplexity),
            _lists("is_greedy", pa.bool_(), lambda score: score.is_greedy),
            _best("best", lambda score: score.logprob / score.tokens),
            _best("best_sum", lambda score: score.logprob),
            PROMPT_TOKENS,
            ERROR,
        ]
        if may_have_logprobs(job):
            columns.append(_lists("token_logprobs", pa.list_(pa.float32()), kept_logprobs))
        return columns

    def counted(self, value: Any) -> int:
        return sum(value or ())

    def work(self, row: RowLabel, values: Mapping[str, Any], prompts: Prompts) -> list[RowWork]:
        prompt, name = prompts.make(values), prompts.columns.completion
        assert name is not None, "it holds lists"
        texts = values[name]
        if not texts:
            raise RowError(f"{name!r} is {'null' if texts is None else 'empty'}")
        each = {f"{name}[{i}]": text for i, text in enumerate(texts)}
        if isinstance(texts, str):
            each = {name: texts}
        first, *others = (_tokens(prompts, field, each) for field in each)
        given = prompt.to_read()
        request = TextRequest(
            row.key(),
            np.concatenate([given, np.asarray(first, np.int32)]),
            len(given),
            tuple(np.asarray(other, np.int32) for other in others),
            prompt.start,
        )
        output_row = partial(_output_row, request, prompt.sampling.logprobs > 0)
        return [TextWork(row, request, output_row, prompt.start_bytes)]


def _tokens(prompts: Prompts, field: str, texts: Mapping[str, Any]) -> list[int]:
    tokens = prompts.text_tokens(field, texts, bos=False)
    if not tokens:
        raise RowError(f"{field!r} has no tokens; there is nothing to score")
    return tokens


def _output_row(request: TextRequest, each: bool, row: RowLabel, scored: TextResult) -> OutputRow:
    try:
        found = row_scores(request, each, scored)
    except RowError as error:
        return row.failed(str(error))
    tokens = sum(score.tokens for score in found)
    return OutputRow(
        row.row, row.id, prompt_tokens=request.given, completion_tokens=tokens, result=found
    )


def _lists(name: str, type: pa.DataType, value: Callable[[Score], Any]) -> Column:
    def values(row: OutputRow) -> list[Any] | None:
        return None if row.result is None else [value(score) for score in row.result]

    return Column(name, pa.list_(type), values)


def _best(name: str, value: Callable[[Score], float]) -> Column:
    def best(row: OutputRow) -> int | None:
        scores: Sequence[Score] | None = row.result
        return None if scores is None else int(np.argmax([value(score) for score in scores]))

    return Column(name, pa.int32(), best)
