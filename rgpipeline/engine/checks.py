"""Which requests an engine can't do, and why."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.api import MAX_STOP_IDS
from rgpipeline.errors import RowError
from rgpipeline.records import Request


def token_fault(tokens: NDArray[np.integer[Any]], vocab: int) -> str | None:
    """Why a text of these tokens can't be read; None if it can."""
    if len(tokens) == 0:
        return "the prompt has no tokens; give at least one (BOS for an empty text)"
    least, greatest = int(tokens.min()), int(tokens.max())
    if least < 0 or greatest >= vocab:
        worst = least if least < 0 else greatest
        return f"token id {worst} is outside the model's vocabulary of {vocab}"
    return None


def request_fault(request: Request, vocab: int, eos_ids: tuple[int, ...]) -> str | None:
    """Why a request can't be done; None if it can."""
    fault = token_fault(request.tokens, vocab)
    if fault is not None:
        return fault
    for field in ("logit_bias", "stop_ids"):
        outside = [i for i in getattr(request.sampling, field) if not 0 <= i < vocab]
        if outside:
            return f"{field} names token id {outside[0]}, outside the vocabulary of {vocab}"
    limit, snapshot = request.sampling.max_tokens, request.snapshot
    if snapshot is not None and limit is not None and snapshot.generated >= limit:
        return f"its snapshot holds {snapshot.generated} tokens, all of max_tokens {limit}"
    if len(stop_ids(request, eos_ids)) > MAX_STOP_IDS:
        return f"more than {MAX_STOP_IDS} stop ids (end-of-sequence included); name fewer"
    return None


def require_none(fault: str | None) -> None:
    """Raises RowError if there is a fault."""
    if fault is not None:
        raise RowError(fault)


def stop_ids(request: Request, eos_ids: tuple[int, ...]) -> tuple[int, ...]:
    """Tokens that end the request's sequence, each once."""
    ends = () if request.sampling.ignore_eos else eos_ids
    return tuple(dict.fromkeys((*ends, *request.sampling.stop_ids)))
