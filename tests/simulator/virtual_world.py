"""Virtual time: actions happen in order, and no time passes between them."""

import heapq
import random
from collections.abc import Callable


class VirtualWorld:
    """A clock, the actions to come, and random numbers."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.happened = 0  # events so far

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Calls `action` after `seconds`."""
        self._count += 1
        heapq.heappush(self._events, (self.now + seconds, self._count, action))

    def pass_time(self, seconds: float) -> None:
        """Everything that is due in the next `seconds` happens.

        Called from within an event, as by somebody who waits for a store, it lets others act
        meanwhile.
        """
        until = self.now + seconds
        while self._events and self._events[0][0] <= until:
            when, _, action = heapq.heappop(self._events)
            self.now = max(self.now, when)
            self.happened += 1
            action()
        self.now = max(self.now, until)

    def chance(self, probability: float) -> bool:
        return probability > 0 and self.random.random() < probability

    def between(self, least: float, most: float) -> float:
        return least + (most - least) * self.random.random()

    def clock(self) -> float:
        return self.now
