"""A text to score: how it is cut, what it shares with other texts, and the scores it has so far.

A text to score is cut in two before its first scored token, at a multiple of the shortest chunk.
Nothing in the first part is scored, so all texts with the same prompt share it. Each part is then
cut as a prompt is (see `queues`). So the cut, and with it every bit, depends on the text and its
first scored token alone.

    0 ........ split .... first - 1 | first ............. n - 1
    first part | second part                              (the last token is only a target)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.api import Rows, TextRequest
from rgpipeline.engine.prefill.prefixes import Prefix, chunk_prefixes, digests


@dataclass(slots=True, eq=False)
class ScoredChunk:
    """Log-probabilities of a chunk, after those of the chunks before it.

    Texts with the same beginning share its chunks.
    """

    before: "ScoredChunk | None"
    logprobs: NDArray[np.float32] | None = None

    def whole(self) -> NDArray[np.float32]:
        """All log-probabilities of the text of which this chunk is the last."""
        found: list[NDArray[np.float32]] = []
        chunk: ScoredChunk | None = self
        while chunk is not None:
            assert chunk.logprobs is not None, "calls are read in order"
            found.append(chunk.logprobs)
            chunk = chunk.before
        return np.concatenate(found[::-1])


@dataclass(frozen=True, slots=True)
class SharedScores(Generic[Rows]):
    """The state at the end of a prefix, and the scores of its tokens."""

    rows: Rows
    chunk: ScoredChunk


@dataclass(slots=True, eq=False)
class ScoredText:
    """A text in a row of the buffer for scoring."""

    request: TextRequest
    row: int
    split: int  # the token at which its second part begins
    prefixes: Sequence[Prefix]
    blocked: bool = True  # another text reads a prefix that it shares
    done: int = 0  # tokens given to the device
    reported: int = 0  # scored tokens reported so far
    chunk: ScoredChunk | None = None  # the last one
    dropped: bool = False

    @property
    def inputs(self) -> int:
        """Tokens to read: the last one is only a target."""
        return len(self.request.tokens) - 1


def split_of(text: TextRequest, shortest: int) -> int:
    """The token at which a text's second part begins; `shortest`: tokens of the shortest chunk."""
    return (text.first - 1) // shortest * shortest


def prefixes_of(text: TextRequest, chunk: int, shortest: int) -> list[Prefix]:
    """The prefixes of a text that another text may share, shortest first.

    In the second part, a prefix stands for its scores too. They depend on the first scored token,
    and on the token after the prefix, which is the prefix's last target.
    """
    tokens, split = text.tokens, split_of(text, shortest)
    prefixes = chunk_prefixes(tokens[:split], chunk)
    ends = list(range(split + chunk, len(tokens) - 1, chunk))
    scored = digests(tokens, [end + 1 for end in ends])
    first = text.first.to_bytes(8, "little")
    return prefixes + [(end, digest + first) for end, digest in zip(ends, scored, strict=True)]
