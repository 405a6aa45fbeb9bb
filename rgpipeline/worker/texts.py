"""Texts that the engine has yet to score."""

from collections.abc import Callable, Hashable, Iterable

from rgpipeline.records import SampleKey, ScoreRequest
from rgpipeline.worker.shared import Held, ToScore

HeldText = tuple[Held, ToScore]


class Texts:
    """The texts that the loop has, each with the assignment that it belongs to."""

    def __init__(self) -> None:
        self._texts: dict[Hashable, HeldText] = {}
        self.nbytes = 0  # host memory, about

    def add(self, held: Held, texts: Iterable[ToScore]) -> list[ScoreRequest]:
        """Notes texts; returns what the loop is to be asked."""
        requests = [ScoreRequest(key_of(held, t), t.tokens, t.first) for t in texts]
        for request, text in zip(requests, texts, strict=True):
            self._texts[request.key] = held, text
            self.nbytes += text.nbytes
        return requests

    def pop(self, key: Hashable) -> HeldText | None:
        """Forgets a text that is scored; None if it was removed before."""
        found = self._texts.pop(key, None)
        self.nbytes -= 0 if found is None else found[1].nbytes
        return found

    def remove(self, needless: Callable[[Held, SampleKey], bool]) -> list[HeldText]:
        """Leaves off texts; returns them."""
        removed = [one for one in self._texts.values() if needless(one[0], key_of(*one))]
        for one in removed:
            self.pop(key_of(*one))
        return removed


def key_of(held: Held, text: ToScore) -> SampleKey:
    """The sample that a text stands for."""
    return SampleKey(held.assignment.shard.index, text.row, 0)
