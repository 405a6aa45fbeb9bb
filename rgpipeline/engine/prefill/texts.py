"""Texts that are read once: how they are cut, what they share, and what is gathered on the way.

A text to score is cut in two before its first scored token, at a multiple of the shortest chunk.
Nothing in the first part is scored, so all texts with the same prompt share it. Each part is then
cut as a prompt is (see `queues`). So the cut, and with it every bit, depends on the text and its
first scored token alone.

    0 ........ split .... first - 1 | first ............. n - 1
    first part | second part                              (the last token is only a target)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.api import Hidden, PendingValues, Rows, TextRequest
from rgpipeline.engine.prefill.prefixes import Prefix, chunk_prefixes, digests


class Found(NamedTuple):
    """What a call has given, on the host."""

    scores: NDArray[np.float32]  # [r, t], where there was a target


@dataclass(frozen=True, slots=True)
class PendingResults:
    """What the device may still be working on."""

    scores: PendingValues

    def read(self) -> Found:
        """Waits for the device."""
        return Found(self.scores.read())


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of the positions of a pack."""

    targets: NDArray[np.int32]  # [r, t], the token after each position, -1 where none is scored

    @classmethod
    def nothing(cls, shape: tuple[int, ...]) -> "Asked":
        """Of a pack of this shape, [r, t]."""
        return cls(np.full(shape, -1, np.int32))

    def start(self, hidden: Hidden) -> PendingResults:
        """Has the device compute it."""
        return PendingResults(hidden.log_probabilities(self.targets))


class Chunk(Protocol):
    """The results of a chunk of a text, which knows the chunks before it."""

    @property
    def tokens(self) -> int:
        """How many tokens it has results of."""
        ...

    def take(self, found: Found, row: int) -> None:
        """Takes its results from its row of a call's. Calls are read in order."""
        ...

    def whole(self) -> NDArray[np.float32]:
        """The values of the text of which this chunk is the last."""
        ...


@dataclass(slots=True, eq=False)
class ScoredChunk:
    """Log-probabilities of a chunk, after those of the chunks before it; a `Chunk`.

    Texts with the same beginning share its chunks.
    """

    before: "ScoredChunk | None"
    scored: slice  # of the positions of its row of the pack
    logprobs: NDArray[np.float32] | None = None

    @property
    def tokens(self) -> int:
        return int(self.scored.stop - self.scored.start)

    def take(self, found: Found, row: int) -> None:
        self.logprobs = found.scores[row, self.scored]

    def whole(self) -> NDArray[np.float32]:
        parts: list[NDArray[np.float32]] = []
        chunk: ScoredChunk | None = self
        while chunk is not None:
            assert chunk.logprobs is not None, "calls are read in order"
            parts.append(chunk.logprobs)
            chunk = chunk.before
        return np.concatenate(parts[::-1])


@dataclass(frozen=True, slots=True)
class SharedChunks(Generic[Rows]):
    """The state at the end of a prefix, and the results of its chunks."""

    rows: Rows
    chunk: Chunk


@dataclass(slots=True, eq=False)
class BufferedText:
    """A text in a row of the buffer for texts."""

    request: TextRequest
    row: int
    split: int  # the token at which its second part begins
    prefixes: Sequence[Prefix]
    blocked: bool = True  # another text reads a prefix that it shares
    done: int = 0  # tokens given to the device
    reported: int = 0  # tokens reported so far
    chunk: Chunk | None = None  # the last one
    dropped: bool = False

    @property
    def inputs(self) -> int:
        """Tokens to read: the last one is only a target."""
        return len(self.request.tokens) - 1

    @property
    def results(self) -> int:
        """Tokens that have a result."""
        return results_of(self.request)

    def read_to(self, done: int, asked: Asked, row: int) -> Chunk:
        """Notes that a chunk up to `done` is read in a row of a pack, and asks for its results."""
        before, self.done = self.done, done
        begin = min(max(before, self.request.first - 1), done)
        scored = slice(begin - before, done - before)
        asked.targets[row, scored] = self.request.tokens[begin + 1 : done + 1]
        assert isinstance(self.chunk, ScoredChunk | None)
        self.chunk = ScoredChunk(self.chunk, scored)
        return self.chunk


def results_of(text: TextRequest) -> int:
    """Tokens of a text that have a result."""
    return max(0, len(text.tokens) - text.first)


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
