"""Texts that are read once: how they are cut, what they share, and what is gathered on the way.

A text to score is cut in two before its first scored token, at a multiple of the shortest chunk.
Nothing in the first part is scored, so all texts with the same prompt share it. Each part is then
cut as a prompt is (see `queues`). So the cut, and with it every bit, depends on the text and its
first scored token alone.

    0 ........ split .... first - 1 | first ............. n - 1
    first part | second part                              (the last token is only a target)

Completions of one prompt are texts with one split: the first of them reads up to it, the others
start from a copy of its state. A text to pool is cut as a prompt is, to its last token; the sums of
its chunks are added in their order, in float32.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.api import Hidden, PendingScores, PendingValues, Rows
from rgpipeline.engine.prefill.prefixes import Prefix, chunk_prefixes, digests
from rgpipeline.engine.text_requests import TextRequest, TokenScores


class Whole(NamedTuple):
    """The result of a text: log-probabilities and `TokenScores.greedy`, or pooled values."""

    values: NDArray[np.float32]
    greedy: NDArray[np.bool_] | None = None


# The result of a completion without tokens.
NOTHING = Whole(np.zeros((0,), np.float32), np.zeros((0,), np.bool_))


class Found(NamedTuple):
    """What a call has given, on the host."""

    scores: TokenScores  # [r, t], where there was a target
    sums: NDArray[np.float32]  # [r, width]; empty if nothing was counted


@dataclass(frozen=True, slots=True)
class PendingResults:
    """What the device may still be working on."""

    scores: PendingScores
    sums: PendingValues | None

    def read(self) -> Found:
        """Waits for the device."""
        sums = np.zeros((0, 0), np.float32) if self.sums is None else self.sums.read()
        return Found(self.scores.read(), sums)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of the positions of a pack."""

    targets: NDArray[np.int32]  # [r, t], the token after each position, -1 where none is scored
    counted: NDArray[np.bool_]  # [r, t], positions whose hidden values are pooled

    @classmethod
    def nothing(cls, shape: tuple[int, ...]) -> "Asked":
        """Of a pack of this shape, [r, t]."""
        return cls(np.full(shape, -1, np.int32), np.zeros(shape, np.bool_))

    def start(self, hidden: Hidden) -> PendingResults:
        """Has the device compute it."""
        sums = hidden.sums(self.counted) if self.counted.any() else None
        return PendingResults(hidden.log_probabilities(self.targets), sums)


class Chunk(Protocol):
    """The results of a chunk of a text, which knows the chunks before it."""

    @property
    def tokens(self) -> int:
        """How many tokens it has results of."""
        ...

    def take(self, found: Found, row: int) -> None:
        """Takes its results from its row of a call's. Calls are read in order."""
        ...

    def whole(self) -> Whole:
        """The result of the text of which this chunk is the last."""
        ...


@dataclass(slots=True, eq=False)
class ScoredChunk:
    """Log-probabilities of a chunk, after those of the chunks before it; a `Chunk`.

    Texts with the same beginning share its chunks.
    """

    before: "ScoredChunk | None"
    scored: slice  # of the positions of its row of the pack
    found: TokenScores | None = None  # [tokens]

    @property
    def tokens(self) -> int:
        return int(self.scored.stop - self.scored.start)

    def take(self, found: Found, row: int) -> None:
        logprobs, greedy = found.scores
        self.found = TokenScores(logprobs[row, self.scored], greedy[row, self.scored])

    def whole(self) -> Whole:
        parts: list[TokenScores] = []
        chunk: ScoredChunk | None = self
        while chunk is not None:
            assert chunk.found is not None, "calls are read in order"
            parts.append(chunk.found)
            chunk = chunk.before
        logprobs, greedy = map(np.concatenate, zip(*parts[::-1], strict=True))
        return Whole(logprobs, greedy)


@dataclass(slots=True, eq=False)
class PooledChunk:
    """The sum of the hidden values of a chunk, and of the chunks before it; a `Chunk`."""

    before: "PooledChunk | None"  # None where only the last token counts
    tokens: int
    count: int  # of the tokens in the whole sum
    sums: NDArray[np.float32] | None = None

    def take(self, found: Found, row: int) -> None:
        before = None if self.before is None else self.before.sums
        self.sums = found.sums[row] if before is None else before + found.sums[row]
        self.before = None  # its memory isn't needed any more

    def whole(self) -> Whole:
        assert self.sums is not None, "calls are read in order"
        return Whole(self.sums / np.float32(self.count))


@dataclass(frozen=True, slots=True)
class SharedChunks(Generic[Rows]):
    """The state at the end of a prefix, and the results of its chunks."""

    rows: Rows
    chunk: Chunk


@dataclass(slots=True, eq=False)
class Completions(Generic[Rows]):
    """The completions of one prompt. The first one that scores anything reads it for all."""

    results: list[Whole | None]  # of each
    followers: int = 0  # completions that wait for the state at the split
    split: SharedChunks[Rows] | None = None  # that state, while any waits for it

    def joined(self) -> Whole | None:
        """All results, one after the other; None while one is missing."""
        if len(self.results) == 1:
            return self.results[0]
        found = [one for one in self.results if one is not None]
        if len(found) < len(self.results):
            return None
        greedy = [one.greedy for one in found if one.greedy is not None]
        return Whole(np.concatenate([one.values for one in found]), np.concatenate(greedy))


@dataclass(slots=True, eq=False)
class Text(Generic[Rows]):
    """A text that waits for a row of the buffer for texts, or has one."""

    request: TextRequest
    group: Completions[Rows]
    index: int  # in the group
    split: int  # the token at which its second part begins
    prefixes: Sequence[Prefix]
    follows: bool = False  # another completion reads the prompt for it
    row: int = -1
    blocked: bool = True  # another text reads a prefix that it shares
    done: int = 0  # tokens given to the device
    reported: int = 0  # tokens reported so far
    chunk: Chunk | None = None  # the last one
    dropped: bool = False

    @property
    def inputs(self) -> int:
        """Tokens to read: the last one of a text to score is only a target."""
        return len(self.request.tokens) - (self.request.pooling is None)

    @property
    def results(self) -> int:
        """Tokens that have a result."""
        return results_of(self.request)

    def read_to(self, done: int, asked: Asked, row: int) -> Chunk:
        """Notes that a chunk up to `done` is read in a row of a pack, and asks for its results."""
        before, self.done = self.done, done
        ask = self._scored if self.request.pooling is None else self._pooled
        self.chunk = ask(before, done, asked, row)
        return self.chunk

    def _pooled(self, before: int, done: int, asked: Asked, row: int) -> PooledChunk:
        tokens = done - before
        if self.request.pooling == "last":
            asked.counted[row, tokens - 1] = True
            return PooledChunk(None, tokens, 1)
        asked.counted[row, :tokens] = True
        assert isinstance(self.chunk, PooledChunk | None)
        return PooledChunk(self.chunk, tokens, len(self.request.tokens))

    def _scored(self, before: int, done: int, asked: Asked, row: int) -> ScoredChunk:
        begin = min(max(before, self.request.first - 1), done)
        scored = slice(begin - before, done - before)
        asked.targets[row, scored] = self.request.tokens[begin + 1 : done + 1]
        assert isinstance(self.chunk, ScoredChunk | None)
        return ScoredChunk(self.chunk, scored)


def results_of(text: TextRequest) -> int:
    """Tokens of a text that have a result."""
    return len(text.tokens) if text.pooling else max(0, len(text.tokens) - text.first)


def split_of(text: TextRequest, shortest: int) -> int:
    """The token at which a text's second part begins; `shortest`: tokens of the shortest chunk."""
    return 0 if text.pooling else (text.first - 1) // shortest * shortest


def prefixes_of(text: TextRequest, chunk: int, shortest: int) -> list[Prefix]:
    """The prefixes of a text that another text may share, shortest first.

    In the second part, a prefix stands for its scores too. They depend on the first scored token,
    and on the token after the prefix, which is the prefix's last target. Of a text to pool, a
    prefix stands for its sum.
    """
    tokens, split = text.tokens, split_of(text, shortest)
    if text.pooling:
        ends = list(range(chunk, len(tokens), chunk))
        kind = text.pooling.encode()
        return [
            (end, digest + kind) for end, digest in zip(ends, digests(tokens, ends), strict=True)
        ]
    prefixes = chunk_prefixes(tokens[:split], chunk)
    ends = list(range(split + chunk, len(tokens) - 1, chunk))
    scored = digests(tokens, [end + 1 for end in ends])
    first = text.first.to_bytes(8, "little")
    return prefixes + [(end, digest + first) for end, digest in zip(ends, scored, strict=True)]
