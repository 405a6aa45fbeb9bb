"""Texts that wait to be scored."""

from collections import deque
from collections.abc import Callable, Iterable

from rgpipeline.records import SampleKey
from rgpipeline.worker.work import Held, ToScore

HeldText = tuple[Held, ToScore]


class Texts:
    """A queue of texts, each with the assignment that it belongs to."""

    def __init__(self) -> None:
        self._texts: deque[HeldText] = deque()

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, held: Held, texts: Iterable[ToScore]) -> None:
        self._texts.extend((held, text) for text in texts)

    def take(self, tokens: int) -> list[HeldText]:
        """The next texts, of about so many tokens together; at least one."""
        chosen: list[HeldText] = []
        while self._texts and (not chosen or tokens > 0):
            chosen.append(self._texts.popleft())
            tokens -= len(chosen[-1][1].tokens)
        return chosen

    def remove(self, needless: Callable[[Held, SampleKey], bool]) -> list[Held]:
        """Leaves off texts; returns the assignment of each."""
        removed = [held for held, text in self._texts if needless(held, key_of(held, text))]
        kept = (one for one in self._texts if not needless(one[0], key_of(*one)))
        self._texts = deque(kept)
        return removed


def key_of(held: Held, text: ToScore) -> SampleKey:
    """The sample that a text stands for."""
    return SampleKey(held.assignment.shard.index, text.row, 0)
