"""Which waiting request is read next: the one with the most tokens to write.

Long sequences started last would leave one slot busy and the others idle at the end of a job;
started first, the short ones fill in around them. Of as many tokens, the longer prompt first.
"""

import heapq
from collections.abc import Hashable

from rgpipeline.engine.prefixes import Prefix
from rgpipeline.records import Request

# What an unlimited sequence counts as; beyond every limit a person would write.
_ENDLESS = 1 << 40


_Entry = tuple[int, int, int, Request, list[Prefix]]


class Waiting:
    """Requests not admitted yet, longest work first, then in the order they came."""

    def __init__(self, long_tokens: int) -> None:
        """`long_tokens`: prompts of more tokens are long ones."""
        self._long_tokens = long_tokens
        self._long: list[_Entry] = []  # a heap, as is the other
        self._short: list[_Entry] = []
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._long) + len(self._short)

    def is_long(self, request: Request) -> bool:
        """Whether the request has a long prompt to read."""
        return request.snapshot is None and len(request.tokens) > self._long_tokens

    def add(self, request: Request, prefixes: list[Prefix]) -> None:
        """Queues a request."""
        limit = request.sampling.max_tokens
        work = _ENDLESS if limit is None else limit
        done = request.snapshot.generated if request.snapshot else 0
        order = (done - work, -len(request.tokens), self._arrivals)
        heap = self._long if self.is_long(request) else self._short
        heapq.heappush(heap, (*order, request, prefixes))
        self._arrivals += 1

    def pop(self, long: bool = True) -> tuple[Request, list[Prefix]] | None:
        """The request with the most tokens to go, of those with a short prompt if not `long`."""
        heaps = [heap for heap in (self._short, self._long if long else []) if heap]
        if not heaps:
            return None
        *_, request, prefixes = heapq.heappop(min(heaps, key=lambda heap: heap[0][:3]))
        return request, prefixes

    def first(self, count: int) -> list[Hashable]:
        """Keys of those that `pop` may hand out next: so many of either kind."""
        entries = [e for heap in (self._long, self._short) for e in heapq.nsmallest(count, heap)]
        return [entry[-2].key for entry in entries]

    def remove(self, key: Hashable) -> list[Prefix] | None:
        """Drops a request that waits; returns its prefixes, or None if it doesn't wait."""
        for heap in (self._long, self._short):
            for index, (*_, request, prefixes) in enumerate(heap):
                if request.key == key:
                    heap[index] = heap[-1]
                    heap.pop()
                    heapq.heapify(heap)
                    return prefixes
        return None
