"""Texts that are read once: what completions of one prompt share, and what is gathered on the way.

`text_cuts` says how a text is cut. The sums of a pooled text's chunks are added in their order, in
float32.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.api import Hidden, PendingScores, PendingValues, Rows
from rgpipeline.engine.prefill.prefixes import Prefix
from rgpipeline.engine.prefill.text_cuts import results_of
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
    chunk: Chunk | None  # the last one; None if there is none yet: a stored state, a first part


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


@dataclass(frozen=True, slots=True)
class PackRow:
    """One row of a call that is in flight."""

    row: int
    text: Text[Any]
    chunk: Chunk
    last: bool  # of its text


@dataclass(frozen=True, slots=True)
class TextCall:
    """A call whose results are not read yet."""

    results: PendingResults
    rows: list[PackRow]
