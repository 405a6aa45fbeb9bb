"""Log-probabilities of a text to its output row."""

import math

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.checks import NO_NUMBERS, without_numbers
from rgpipeline.records import OutputRow, Score
from rgpipeline.worker.row_maker import placed
from rgpipeline.worker.segment_logprobs import plain
from rgpipeline.worker.shared import ToScore


def scored_row(text: ToScore, logprobs: NDArray[np.float32]) -> OutputRow:
    """The row of a scored text.

    Args:
      text: what was scored.
      logprobs: of each scored token given those before it, [n - first].
    """
    if without_numbers(logprobs):
        error = placed(text.place, NO_NUMBERS)
        return OutputRow(text.row, text.id, finish_reason="error", error=error)
    total = float(np.sum(logprobs, dtype=np.float64))
    mean = -total / len(logprobs)
    # exp overflows for a text that the model holds impossible.
    perplexity = math.exp(mean) if mean < 700 else math.inf
    each = plain(logprobs) if text.each else None
    score = Score(len(logprobs), total, perplexity, each)
    return OutputRow(text.row, text.id, prompt_tokens=text.first, score=score)
