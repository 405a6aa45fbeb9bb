"""`task: score`: log-probabilities of given texts."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rgpipeline.engine.checks import NO_NUMBERS, without_numbers
from rgpipeline.engine.text_requests import TextRequest, TextResult
from rgpipeline.errors import RowError
from rgpipeline.io.parts import ERROR, PROMPT_TOKENS, SEGMENT_COLUMNS, Column
from rgpipeline.records import OutputRow
from rgpipeline.spec import Job
from rgpipeline.tasks.generate_task import may_have_logprobs
from rgpipeline.tasks.row_prompts import Prompts
from rgpipeline.tasks.task import RowLabel, RowWork, Task, TextWork


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """The score of a completion given its prompt.

    `token_logprobs`, float32 [tokens]: log-probability of each token given all before it. `logprob`
    is their sum. `is_greedy`: each token is the most probable one given all before it.
    """

    token_logprobs: NDArray[np.float32]
    logprob: float
    tokens: int
    is_greedy: bool

    @property
    def perplexity(self) -> float:
        """exp(-logprob / tokens); 1 without tokens."""
        mean = -self.logprob / max(1, self.tokens)
        # exp overflows for a text that the model holds impossible.
        return math.exp(mean) if mean < 700 else math.inf


def scores_of(request: TextRequest, result: TextResult) -> list[Score]:
    """The score of each completion of a text that is read.

    Raises RowError where logits were not finite.
    """
    assert result.values is not None, "the result is whole"
    assert result.greedy is not None, "the text is scored"
    if without_numbers(result.values):
        raise RowError(NO_NUMBERS)
    lengths = [len(request.tokens) - request.first, *map(len, request.others)]
    ends = np.cumsum(lengths)[:-1]
    pairs = zip(np.split(result.values, ends), np.split(result.greedy, ends), strict=True)
    return [
        Score(values, float(np.sum(values, dtype=np.float64)), len(values), bool(greedy.all()))
        for values, greedy in pairs
    ]


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
    sampling_keys = ("logprobs",)

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
            columns.append(_column("token_logprobs", pa.list_(pa.float32()), kept_logprobs))
        return columns

    def work(self, row: RowLabel, values: Mapping[str, Any], prompts: Prompts) -> list[RowWork]:
        prompt = prompts.make(values)
        column = prompts.columns.completion
        scored: list[int] = []
        if column is not None:
            if values[column] is None:
                raise RowError(f"{column!r} is null")
            scored = prompts.text_tokens(column, values, bos=False)
        given = prompt.to_read()
        first = len(given)
        if column is None:
            first = 1 if prompt.start is None else len(prompt.start.tail)
        tokens = np.concatenate([given, np.asarray(scored, np.int32)])
        if len(tokens) <= first:
            raise RowError("there is nothing to score: no token follows the given ones")
        request = TextRequest(row.key(), tokens, first, start=prompt.start)
        output_row = partial(_output_row, request, prompt.sampling.logprobs > 0)
        return [TextWork(row, request, output_row, prompt.start_bytes)]


def kept_logprobs(score: Score) -> NDArray[np.float32] | None:
    """The log-probabilities of a row's score; None where the row didn't ask for them."""
    return score.token_logprobs if len(score.token_logprobs) else None


def row_scores(request: TextRequest, each: bool, scored: TextResult) -> list[Score]:
    """`scores_of`, with log-probabilities of single tokens only if they are asked for (`each`)."""
    found = scores_of(request, scored)
    none = np.zeros((0,), np.float32)
    return found if each else [replace(score, token_logprobs=none) for score in found]


def _output_row(request: TextRequest, each: bool, row: RowLabel, scored: TextResult) -> OutputRow:
    try:
        (score,) = row_scores(request, each, scored)
    except RowError as error:
        return row.failed(str(error))
    return OutputRow(
        row.row, row.id, prompt_tokens=request.given, completion_tokens=score.tokens, result=score
    )


def _column(name: str, type: pa.DataType, value: Callable[[Score], Any]) -> Column:
    return Column(name, type, lambda row: None if row.result is None else value(row.result))
