"""How texts to score are cut, and what texts with the same beginning share.

A text is cut in two where its first scored token is asked for, down to a multiple of the shortest
chunk. The first part is nobody's to score, so all texts with the same prompt share it. Each part is
then cut as a prompt is (see `prefill_queue`). So the cut, and with it every bit, depends on the
text and its first scored token alone.

    0 ........ split .... first - 1 | first ............. n - 1
    first part | second part                              (the last token is only a target)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.api import Rows
from rgpipeline.engine.prefixes import Prefix, chunk_ends, digests
from rgpipeline.records import ScoreRequest


@dataclass(slots=True, eq=False)
class Piece:
    """Log-probabilities of one chunk, after those before it; texts that begin alike share them."""

    before: "Piece | None"
    logprobs: NDArray[np.float32] | None = None

    def whole(self) -> NDArray[np.float32]:
        """All of a text's log-probabilities, this piece being its last."""
        found: list[NDArray[np.float32]] = []
        piece: Piece | None = self
        while piece is not None:
            assert piece.logprobs is not None, "calls are answered in order"
            found.append(piece.logprobs)
            piece = piece.before
        return np.concatenate(found[::-1])


@dataclass(frozen=True, slots=True)
class Shared(Generic[Rows]):
    """The state at the end of a prefix, and the scores of its tokens."""

    rows: Rows
    piece: Piece


@dataclass(slots=True, eq=False)
class Reading:
    """A text in a place of the stage."""

    text: ScoreRequest
    place: int
    split: int  # where its second part begins
    prefixes: Sequence[Prefix]
    done: int = 0  # tokens given to the device
    told: int = 0  # scored tokens that were told of
    piece: Piece | None = None  # the last one
    dropped: bool = False

    @property
    def inputs(self) -> int:
        """Tokens to read: the last one is only a target."""
        return len(self.text.tokens) - 1


def split_of(text: ScoreRequest, least: int) -> int:
    """Where the second part begins; `least` tokens are in the shortest chunk."""
    return (text.first - 1) // least * least


def prefixes_of(text: ScoreRequest, chunk: int, least: int) -> list[Prefix]:
    """The beginnings that another text may share with it, shortest first.

    In the second part a prefix stands for its scores, too. They depend on where scores begin, and
    on the token after the prefix, which is their last target.
    """
    tokens, split = text.tokens, split_of(text, least)
    ends = chunk_ends(0, split, chunk)
    prefixes = list(zip(ends, digests(tokens, ends), strict=True))
    ends = list(range(split + chunk, len(tokens) - 1, chunk))
    scored = digests(tokens, [end + 1 for end in ends])
    first = text.first.to_bytes(8, "little")
    return prefixes + [(end, digest + first) for end, digest in zip(ends, scored, strict=True)]
