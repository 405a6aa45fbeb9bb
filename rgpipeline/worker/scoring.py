"""Log-probabilities of a text to its output row."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from rgpipeline.records import OutputRow, Score
from rgpipeline.worker.logprobs import plain
from rgpipeline.worker.tally import Tally
from rgpipeline.worker.work import ToScore


def counting(texts: Sequence[ToScore], tally: Tally) -> Callable[[int, int], None]:
    """What `Loop.score` shall tell of the tokens it has scored: those that are asked for count."""
    given = [text.first - 1 for text in texts]  # not met yet, for each text

    def scored(text: int, tokens: int) -> None:
        passed = min(tokens, given[text])
        given[text] -= passed
        tally.completion_tokens += tokens - passed

    return scored


def scored_row(text: ToScore, logprobs: NDArray[np.float32]) -> OutputRow:
    """The row of a scored text.

    Args:
      text: what was scored.
      logprobs: of each of its tokens given those before it, [n - 1].
    """
    wanted = logprobs[text.first - 1 :]
    total = float(np.sum(wanted, dtype=np.float64))
    mean = -total / len(wanted)
    # exp overflows for a text that the model holds impossible.
    perplexity = math.exp(mean) if mean < 700 else math.inf
    each = plain(wanted) if text.each else None
    score = Score(len(wanted), total, perplexity, each)
    return OutputRow(text.row, text.id, prompt_tokens=text.first, score=score)
