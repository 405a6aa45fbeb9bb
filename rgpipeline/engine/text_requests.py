"""Texts that an engine reads once, in no slot, and what comes of them. Free of jax."""

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rgpipeline.read_texts import ReadText

Pooling = Literal["mean", "last"]


class TokenScores(NamedTuple):
    """Scores of tokens, each given all tokens before it."""

    logprobs: NDArray[np.float32]
    greedy: NDArray[np.bool_]  # it is the most probable token; of equal ones, the one of least id


@dataclass(frozen=True, slots=True)
class TextRequest:
    """A text to read once.

    The tokens from `first` on are scored, given those before. `others` are scored in their place,
    too: all are completions of one prompt, which is read once. Or, with `pooling`, the text is
    pooled.
    """

    key: Hashable
    tokens: NDArray[np.int32]  # [n]
    first: int = 1  # in [1, n]; n scores nothing
    others: tuple[NDArray[np.int32], ...] = ()
    start: ReadText | None = None  # what `tokens`, its tail first, follow
    pooling: Pooling | None = None  # of the final hidden values: their mean, or the last token's

    @property
    def given(self) -> int:
        """Tokens that are not scored, without those of `start`."""
        return self.first - (0 if self.start is None else len(self.start.tail))

    def completions(self) -> list["TextRequest"]:
        """A request for each completion: the text itself, and those with one of the others."""
        prompt = self.tokens[: self.first]
        texts = (np.concatenate([prompt, other]) for other in self.others)
        return [replace(self, tokens=text, others=()) for text in (self.tokens, *texts)]


@dataclass(frozen=True, slots=True)
class TextResult:
    """The progress of a text since its last result."""

    key: Hashable
    tokens: int  # scored or pooled
    # With the last result: the log-probabilities of the tokens that are scored, those of the
    # completions one after the other; or the pooled hidden values [width].
    values: NDArray[np.float32] | None = None
    greedy: NDArray[np.bool_] | None = None  # for each log-probability, see `TokenScores`

    @property
    def whole(self) -> bool:
        """Whether this is the text's last result."""
        return self.values is not None
