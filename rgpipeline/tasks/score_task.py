"""`task: score`: log-probabilities of given texts."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rgpipeline.engine.api import TextRequest, TextResult
from rgpipeline.engine.checks import NO_NUMBERS, without_numbers
from rgpipeline.errors import RowError
from rgpipeline.io.parts import ERROR, PROMPT_TOKENS, SEGMENT_COLUMNS, Column
from rgpipeline.records import OutputRow
from rgpipeline.spec import Job
from rgpipeline.tasks.generate_task import may_have_logprobs
from rgpipeline.tasks.row_prompts import Prompts
from rgpipeline.tasks.task import RowLabel, RowWork, Task, TextWork


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """The result of one text."""

    tokens: int  # that were scored
    logprob: float  # sum over the scored tokens, natural logarithm
    perplexity: float
    token_logprobs: NDArray[np.float32] | None = None  # [tokens], where asked for


class ScoreTask(Task):
    """Scores the `completion` column after the prompt, or without one the prompt's own tokens.

    Columns: id, sample, segment, tokens, logprob, perplexity, prompt_tokens, error; then, where
    asked, token_logprobs (list<float32>).
    """

    name = "score"
    done = "scored"
    token_column = "tokens"
    uses_slots = False
    writes_texts = False

    def columns(self, job: Job) -> list[Column]:
        columns = [
            *SEGMENT_COLUMNS,
            _column("tokens", pa.int64(), lambda score: score.tokens),
            _column("logprob", pa.float64(), lambda score: score.logprob),
            _column("perplexity", pa.float64(), lambda score: score.perplexity),
            PROMPT_TOKENS,
            ERROR,
        ]
        if may_have_logprobs(job):
            floats = pa.list_(pa.float32())
            columns.append(_column("token_logprobs", floats, lambda score: score.token_logprobs))
        return columns

    def work(self, row: RowLabel, values: Mapping[str, Any], prompts: Prompts) -> list[RowWork]:
        prompt = prompts.make(values)
        column = prompts.columns.completion
        scored: list[int] = []
        if column is not None:
            if values[column] is None:
                raise RowError(f"{column!r} is null")
            scored = prompts.text_tokens(column, values, bos=False)
        first = 1 if column is None else len(prompt.tokens)
        tokens = np.asarray([*prompt.tokens, *scored], np.int32)
        if len(tokens) <= first:
            raise RowError("there is nothing to score: no token follows the given ones")
        request = TextRequest(row.key(), tokens, first)
        return [TextWork(row, request, partial(_output_row, request, prompt.sampling.logprobs > 0))]


def _output_row(request: TextRequest, each: bool, row: RowLabel, scored: TextResult) -> OutputRow:
    """`each`: log-probabilities of single tokens are asked for, too."""
    assert scored.values is not None, "the result is whole"
    if without_numbers(scored.values):
        return row.failed(NO_NUMBERS)
    count = len(scored.values)
    total = float(np.sum(scored.values, dtype=np.float64))
    mean = -total / count
    # exp overflows for a text that the model holds impossible.
    perplexity = math.exp(mean) if mean < 700 else math.inf
    score = Score(count, total, perplexity, scored.values if each else None)
    return OutputRow(
        row.row, row.id, prompt_tokens=request.first, completion_tokens=count, result=score
    )


def _column(name: str, type: pa.DataType, value: Callable[[Score], Any]) -> Column:
    return Column(name, type, lambda row: None if row.result is None else value(row.result))
