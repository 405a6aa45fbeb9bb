"""Log-probabilities of a segment's tokens, as the output holds them."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rgpipeline.records import TokenLogprobs


class LogprobTail:
    """Those of the tokens since the last border of a segment."""

    def __init__(self, wanted: int, state: dict[str, Any] | None = None) -> None:
        """`wanted`: as `Sampling.logprobs`. Goes on from what `state()` gave."""
        self._wanted = wanted
        self._sampled: list[float] = state["sampled"] if state else []
        self._top_ids: list[list[int]] = state["top_ids"] if state else []
        self._top: list[list[float]] = state["top"] if state else []

    def add(self, logprobs: TokenLogprobs, start: int, stop: int) -> None:
        """Takes those of tokens [start, stop) of an emission."""
        self._sampled += plain(logprobs.sampled[start:stop])
        if self._wanted > 1:
            self._top_ids += logprobs.top_ids[start:stop].tolist()
            self._top += [plain(row) for row in logprobs.top[start:stop]]

    def clear(self) -> None:
        self._sampled, self._top_ids, self._top = [], [], []

    def value(self) -> str | list[float] | None:
        """The column's value: None unless asked for; numbers; with more than 1 asked for, JSON.

        `{"sampled": [m numbers], "top_ids": [m lists], "top": [m lists of numbers]}`
        """
        if not self._wanted:
            return None
        if self._wanted == 1:
            return self._sampled
        return json.dumps(self._all(), separators=(",", ":"))

    def state(self) -> dict[str, Any] | None:
        """Plain JSON, for a snapshot's notes."""
        return self._all() if self._wanted else None

    def _all(self) -> dict[str, Any]:
        return {
            "sampled": list(self._sampled),
            "top_ids": list(self._top_ids),
            "top": list(self._top),
        }


def plain(values: NDArray[np.float32]) -> list[float]:
    """float32 numbers as Python's, by their shortest spelling: they read back as they were."""
    return [float(str(value)) for value in values]
