"""Log-probabilities of a segment's tokens, as values of the output's column."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rgpipeline.records import TokenLogprobs

TokenText = Callable[[int, bool], str]  # the text of a token id; whether it begins the completion


class SegmentLogprobs:
    """Collects log-probabilities of the tokens since the last segment ended."""

    def __init__(
        self, wanted: int, state: dict[str, Any] | None = None, text: TokenText | None = None
    ) -> None:
        """`wanted`: as `Sampling.logprobs`. `state`: what `state()` gave, to resume.

        With `text`, the value has the text of each token too.
        """
        self._wanted = wanted
        self._text = text
        self._sampled: list[float] = state["sampled"] if state else []
        self._top_ids: list[list[int]] = state["top_ids"] if state else []
        self._top: list[list[float]] = state["top"] if state else []
        self._ids: list[int] = state.get("ids", []) if state else []  # for the texts

    def add(self, logprobs: TokenLogprobs, ids: NDArray[np.int32], start: int, stop: int) -> None:
        """Adds those of tokens [start, stop) of an emission; `ids` are these tokens."""
        self._sampled += short_floats(logprobs.sampled[start:stop])
        if self._wanted > 1:
            self._top_ids += logprobs.top_ids[start:stop].tolist()
            self._top += [short_floats(row) for row in logprobs.top[start:stop]]
        if self._wanted and self._text is not None:
            self._ids += ids.tolist()

    def clear(self) -> None:
        self._sampled, self._top_ids, self._top, self._ids = [], [], [], []

    def value(self, *, first: bool = False) -> str | list[float] | None:
        """The column's value: None unless wanted; the sampled tokens' numbers for 1; else JSON.

        The JSON is `{"sampled": [m numbers], "top_ids": [m lists], "top": [m lists of numbers]}`,
        and with texts `"tokens": [m texts], "top_tokens": [m lists of texts]`. `first`: the
        segment begins the completion.
        """
        if not self._wanted:
            return None
        if self._wanted == 1 and self._text is None:
            return self._sampled
        value = self._numbers()
        if self._text is not None:
            value |= {
                "tokens": _texts(self._text, self._ids, first),
                "top_tokens": [
                    [self._text(token, first and index == 0) for token in ids]
                    for index, ids in enumerate(self._top_ids)
                ],
            }
        return json.dumps(value, separators=(",", ":"))

    def state(self) -> dict[str, Any] | None:
        """JSON for a snapshot's notes; None unless wanted."""
        if not self._wanted:
            return None
        return self._numbers() | ({} if self._text is None else {"ids": list(self._ids)})

    def _numbers(self) -> dict[str, Any]:
        return {
            "sampled": list(self._sampled),
            "top_ids": list(self._top_ids),
            "top": list(self._top),
        }


def _texts(text: TokenText, ids: Sequence[int], first: bool) -> list[str]:
    return [text(token, first and index == 0) for index, token in enumerate(ids)]


def short_floats(values: NDArray[np.float32]) -> list[float]:
    """float32 numbers as Python floats with few digits, which read back as the same float32."""
    return [float(str(value)) for value in values]
