"""Shared beginnings of prompts and texts: read once, their state copied.

A state is kept if a second request has the same prefix: at every multiple of the chunk length, and
at the end of a prompt that is sampled several times; and where a request continues a text that was
read before, at its end. A prompt is always cut at the same tokens, so a copied state has the same
bits as one that was computed anew. `texts` says how texts to score are cut.
"""

import hashlib
from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.api import Rows

Prefix = tuple[int, bytes]  # number of tokens, digest of them


class PrefixCache(Generic[Rows]):
    """States at the ends of prefixes; the least recently used is dropped first."""

    def __init__(self, chunk: int, capacity: int) -> None:
        """`chunk`: tokens between the ends that can be shared; `capacity`: states at most."""
        self._chunk = chunk
        self._capacity = capacity
        self._expected: Counter[Prefix] = Counter()
        self._owners: dict[Prefix, int] = {}
        self._states: OrderedDict[Prefix, Rows] = OrderedDict()

    def expect_prompt(self, tokens: NDArray[np.int32], after: bytes = b"") -> list[Prefix]:
        """`expect` for the prefixes of a prompt, of which `tokens` are to be read.

        `after`: which text it continues, if it continues one that is read; its end is a prefix of
        no tokens.
        """
        if not self._capacity:
            return []
        start = [(0, after)] if after else []
        return self.expect(start + chunk_prefixes(tokens, self._chunk, after))

    def expect(self, prefixes: list[Prefix]) -> list[Prefix]:
        """Records that a request has these prefixes, shortest first.

        Returns them, or none of them if the cache keeps no states.
        """
        if not self._capacity:
            return []
        self._expected.update(prefixes)
        return prefixes

    def forget(self, prefixes: Sequence[Prefix], row: int | None) -> None:
        """The request with these prefixes has its state, or is dropped.

        `row`: of the buffer, if it has one; the row owns none of the prefixes any more.
        """
        self._expected.subtract(prefixes)
        for prefix in prefixes:
            if self._expected[prefix] <= 0:
                del self._expected[prefix]
            if row is not None and self._owners.get(prefix) == row:
                del self._owners[prefix]

    def claim(self, prefixes: Sequence[Prefix], row: int) -> bool:
        """Makes `row` the owner, in which these are read; False if another row owns one of them."""
        missing = [p for p in prefixes if p not in self._states]
        if any(self._owners.get(prefix, row) != row for prefix in missing):
            return False
        self._owners.update((p, row) for p in missing if self._expected[p] > 1)
        return True

    def longest(
        self, prefixes: Sequence[Prefix], at_most: int | None = None
    ) -> tuple[int, Rows | None]:
        """The longest prefix with a state, of `at_most` tokens: their number, and the state.

        0 and None where there is no such prefix.
        """
        for prefix in reversed(prefixes):
            if prefix in self._states and (at_most is None or prefix[0] <= at_most):
                self._states.move_to_end(prefix)
                return prefix[0], self._states[prefix]
        return 0, None

    def reached(self, prefixes: Sequence[Prefix], done: int) -> Prefix | None:
        """The prefix of `done` tokens, if a second request expects it and no state is kept."""
        index = bisect_left(prefixes, (done, b""))
        if index == len(prefixes):
            return None
        prefix = prefixes[index]
        wanted = prefix[0] == done and self._expected[prefix] > 1 and prefix not in self._states
        return prefix if wanted else None

    def keep(self, prefix: Prefix, rows: Rows) -> None:
        """Keeps a state, and drops the least recently used one if there are too many."""
        self._states[prefix] = rows
        while len(self._states) > self._capacity:
            self._states.popitem(last=False)


def chunk_prefixes(tokens: NDArray[np.int32], chunk: int, after: bytes = b"") -> list[Prefix]:
    """The prefixes that end where a chunk of the tokens ends: at each full one, and at the last.

    `after`: what is read before the tokens.
    """
    ends = list(range(chunk, len(tokens) + 1, chunk))
    if len(tokens) % chunk:
        ends.append(len(tokens))
    return list(zip(ends, digests(tokens, ends, after), strict=True))


def digests(tokens: NDArray[np.int32], ends: Sequence[int], after: bytes = b"") -> list[bytes]:
    """A digest of `tokens[:end]` for each of the ends, which are in increasing order."""
    digest, found, start = hashlib.sha256(after), [], 0
    for end in ends:
        digest.update(np.ascontiguousarray(tokens[start:end]).tobytes())
        found.append(digest.digest())
        start = end
    return found
