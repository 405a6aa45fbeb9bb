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


class Waiting:
    """Requests not admitted yet, longest work first, then in the order they came."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, int, Request, list[Prefix]]] = []
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, request: Request, prefixes: list[Prefix]) -> None:
        """Queues a request."""
        limit = request.sampling.max_tokens
        work = _ENDLESS if limit is None else limit
        done = request.snapshot.generated if request.snapshot else 0
        order = (done - work, -len(request.tokens), self._arrivals)
        heapq.heappush(self._heap, (*order, request, prefixes))
        self._arrivals += 1

    def pop(self) -> tuple[Request, list[Prefix]]:
        """The request with the most tokens to go."""
        *_, request, prefixes = heapq.heappop(self._heap)
        return request, prefixes

    def first(self, count: int) -> list[Hashable]:
        """Keys of those that `pop` will hand out next."""
        return [entry[-2].key for entry in heapq.nsmallest(count, self._heap)]

    def remove(self, key: Hashable) -> list[Prefix] | None:
        """Drops a request that waits; returns its prefixes, or None if it doesn't wait."""
        for index, (*_, request, prefixes) in enumerate(self._heap):
            if request.key == key:
                self._heap[index] = self._heap[-1]
                self._heap.pop()
                heapq.heapify(self._heap)
                return prefixes
        return None
