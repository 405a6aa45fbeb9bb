"""Which requests an engine can't do, and what to do when logits are NaN or infinite."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.slot_fields import MAX_STOP_IDS
from rgpipeline.engine.text_requests import TextResult
from rgpipeline.errors import RowError, WeightsError
from rgpipeline.read_texts import ReadText, StateKind
from rgpipeline.records import Emission, Request

# The error of a row whose logits are not finite.
NO_NUMBERS = (
    "the model gives no numbers for it: its logits are NaN or infinite; "
    "try model.dtype: float32, or check the weights"
)

_MAX_FAILED = 32  # sequences without finite logits, while no other has any


def check_tokens(tokens: NDArray[np.integer[Any]], vocab: int) -> None:
    """Raises RowError if a text of these tokens can't be read."""
    if len(tokens) == 0:
        raise RowError("the prompt has no tokens; give at least one (BOS for an empty text)")
    least, greatest = int(tokens.min()), int(tokens.max())
    if least < 0 or greatest >= vocab:
        worst = least if least < 0 else greatest
        raise RowError(f"token id {worst} is outside the model's vocabulary of {vocab}")


def check_text(tokens: NDArray[np.integer[Any]], start: ReadText | None, kind: StateKind) -> None:
    """Raises RowError if an engine of this kind can't read these tokens after `start`."""
    check_tokens(tokens, kind.vocabulary)
    misfit = start.kind.misfit(kind) if start is not None else None
    if misfit is not None:
        raise RowError(f"{misfit}; read the text again with this model")


def check_request(request: Request, kind: StateKind, eos_ids: tuple[int, ...]) -> None:
    """Raises RowError if a request can't be done by an engine of this kind."""
    vocab = kind.vocabulary
    check_text(request.tokens, request.start, kind)
    sampling, snapshot = request.sampling, request.snapshot
    for field in ("logit_bias", "stop_ids"):
        outside = [i for i in getattr(sampling, field) if not 0 <= i < vocab]
        if outside:
            raise RowError(
                f"{field} names token id {outside[0]}, outside the vocabulary of {vocab}"
            )
    limit = sampling.max_tokens
    if snapshot is not None and limit is not None and snapshot.generated >= limit:
        raise RowError(f"its snapshot holds {snapshot.generated} tokens, all of max_tokens {limit}")
    if len(stop_ids(request, eos_ids)) > MAX_STOP_IDS:
        raise RowError(f"more than {MAX_STOP_IDS} stop ids (end-of-sequence included); name fewer")


def stop_ids(request: Request, eos_ids: tuple[int, ...]) -> tuple[int, ...]:
    """Tokens that end the request's sequence, each once."""
    ends = () if request.sampling.ignore_eos else eos_ids
    return tuple(dict.fromkeys((*ends, *request.sampling.stop_ids)))


class NumberCheck:
    """Looks at an engine's results, and raises if no row gets finite logits.

    It costs nothing as long as all logits are finite.
    """

    def __init__(self, probe: Callable[[], None] = lambda: None, weights: str = "") -> None:
        """`probe` raises WeightsError if even the shortest text gets no finite logits.

        `weights`: what messages call them.
        """
        self._probe = probe
        self._weights = weights
        self._probed = False
        self._failed = 0  # sequences
        self._any = False  # some sequence has got a token

    def emitted(self, emission: Emission) -> Emission:
        """Looks at an emission and returns it. Raises WeightsError."""
        if emission.error is not None:
            self._fail(1)
        elif len(emission.token_ids):
            self._any = True
        return emission

    def of_texts(self, texts: list[TextResult]) -> list[TextResult]:
        """Looks at the results of texts and returns them. Raises WeightsError."""
        whole = [text.values for text in texts if text.values is not None]
        failed = sum(map(without_numbers, whole))
        self._any = self._any or failed < len(whole)
        if failed:
            self._fail(failed)
        return texts

    def _fail(self, count: int) -> None:
        if not self._probed:
            self._probe()
            self._probed = True
        self._failed += count
        if self._failed >= _MAX_FAILED and not self._any:
            raise WeightsError(
                f"{self._weights}: the weights give no numbers: the logits of the first "
                f"{self._failed} rows are NaN or infinite; check the weights"
            )


def without_numbers(logprobs: NDArray[np.float32]) -> bool:
    """Whether a text's log-probabilities come from logits that are NaN or infinite."""
    return bool(np.isnan(logprobs).any())
