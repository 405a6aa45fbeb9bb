"""Shared beginnings of prompts: prefilled once, their state copied.

A prefix is worth keeping when a second request has it: the state at every multiple of the chunk
length that two requests share, and at the end of a prompt that is sampled several times. Since a
prompt is always cut at the same places, a copied state has the very bits of a fresh one.
"""

import hashlib
from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.api import Rows
from rgpipeline.records import ScoreRequest

Prefix = tuple[int, bytes]  # tokens, digest of them


class PrefixCache(Generic[Rows]):
    """States at the ends of prefixes, the least recently used dropped first."""

    def __init__(self, chunk: int, capacity: int) -> None:
        """`chunk` tokens between the places that can be shared; at most `capacity` states."""
        self._chunk = chunk
        self._capacity = capacity
        self._expected: Counter[Prefix] = Counter()
        self._owners: dict[Prefix, int] = {}
        self._states: OrderedDict[Prefix, Rows] = OrderedDict()

    def expect(self, tokens: NDArray[np.int32]) -> list[Prefix]:
        """Notes that a request will prefill `tokens`; returns its prefixes, shortest first."""
        if not self._capacity:
            return []
        ends = chunk_ends(0, len(tokens), self._chunk)
        return self.expect_these(list(zip(ends, digests(tokens, ends), strict=True)))

    def expect_these(self, prefixes: list[Prefix]) -> list[Prefix]:
        """Notes that a request has these prefixes, shortest first; returns those worth a look."""
        if not self._capacity:
            return []
        self._expected.update(prefixes)
        return prefixes

    def forget(self, prefixes: Sequence[Prefix], place: int | None) -> None:
        """The request that expected these has its state, or is gone; so is its ownership."""
        self._expected.subtract(prefixes)
        for prefix in prefixes:
            if self._expected[prefix] <= 0:
                del self._expected[prefix]
            if place is not None and self._owners.get(prefix) == place:
                del self._owners[prefix]

    def claim(self, prefixes: Sequence[Prefix], place: int) -> bool:
        """Makes `place` the one where these are read; False while another reads one of them."""
        missing = [p for p in prefixes if p not in self._states]
        if any(self._owners.get(prefix, place) != place for prefix in missing):
            return False
        self._owners.update((p, place) for p in missing if self._expected[p] > 1)
        return True

    def longest(self, prefixes: Sequence[Prefix]) -> tuple[int, Rows | None]:
        """Tokens covered by the longest state kept (0 if none is), and the state."""
        for prefix in reversed(prefixes):
            if prefix in self._states:
                self._states.move_to_end(prefix)
                return prefix[0], self._states[prefix]
        return 0, None

    def reached(self, prefixes: Sequence[Prefix], done: int) -> Prefix | None:
        """The prefix that ends at `done`, if a second request expects it and none is kept."""
        index = bisect_left(prefixes, (done, b""))
        if index == len(prefixes):
            return None
        prefix = prefixes[index]
        wanted = prefix[0] == done and self._expected[prefix] > 1 and prefix not in self._states
        return prefix if wanted else None

    def keep(self, prefix: Prefix, rows: Rows) -> None:
        """Keeps a state, dropping the least recently used beyond the capacity."""
        self._states[prefix] = rows
        while len(self._states) > self._capacity:
            self._states.popitem(last=False)


def chunk_ends(start: int, stop: int, chunk: int) -> list[int]:
    """Where the chunks of tokens [start, stop) end that can be shared: full ones, and the last."""
    ends = list(range(start + chunk, stop + 1, chunk))
    if (stop - start) % chunk:
        ends.append(stop)
    return ends


def digests(tokens: NDArray[np.int32], ends: Sequence[int]) -> list[bytes]:
    """A digest of `tokens[:end]` for each of the ends, which only grow."""
    digest, found, start = hashlib.sha256(), [], 0
    for end in ends:
        digest.update(np.ascontiguousarray(tokens[start:end]).tobytes())
        found.append(digest.digest())
        start = end
    return found


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
