"""What to do about logits that are NaN or infinite: one row's fault, or that of the weights."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rgpipeline.errors import WeightsError
from rgpipeline.records import Emission, Scored

# The error of a row whose logits are not finite.
NO_NUMBERS = (
    "the model gives no numbers for it: its logits are NaN or infinite; "
    "try model.dtype: float32, or check the weights"
)

_MOST_FAILED = 32  # sequences without numbers, while no other has any


class NumberCheck:
    """Watches what an engine brings, and ends the work when no row can get numbers.

    Nothing is computed for it as long as all logits are finite.
    """

    def __init__(self, probe: Callable[[], None] = lambda: None, weights: str = "") -> None:
        """`probe` raises WeightsError if the weights give no numbers for the shortest text.

        `weights`: what messages call them.
        """
        self._probe = probe
        self._weights = weights
        self._passed = False  # the probe
        self._failed = 0  # sequences
        self._any = False  # some sequence has got a token

    def emitted(self, emission: Emission) -> Emission:
        """What a sequence gained, as it is. Raises WeightsError."""
        if emission.error is not None:
            self._fail(1)
        elif len(emission.token_ids):
            self._any = True
        return emission

    def scored(self, texts: list[Scored]) -> list[Scored]:
        """What texts gained, as it is. Raises WeightsError."""
        self.of_scores([text.logprobs for text in texts if text.logprobs is not None])
        return texts

    def of_scores(self, scores: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Texts' log-probabilities, as they are. Raises WeightsError."""
        failed = sum(map(without_numbers, scores))
        self._any = self._any or failed < len(scores)
        if failed:
            self._fail(failed)
        return scores

    def _fail(self, count: int) -> None:
        if not self._passed:
            self._probe()
            self._passed = True
        self._failed += count
        if self._failed >= _MOST_FAILED and not self._any:
            raise WeightsError(
                f"{self._weights}: the weights give no numbers: the logits of the first "
                f"{self._failed} rows are NaN or infinite; check the weights"
            )


def without_numbers(logprobs: NDArray[np.float32]) -> bool:
    """Whether a text's log-probabilities come of logits that are NaN or infinite."""
    return bool(np.isnan(logprobs).any())
