"""N-gram models of token ids: what a language model must beat to have learnt anything."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

Context = tuple[int, ...]


class NGram:
    """Interpolated n-gram model with absolute discounting (Ney, Essen and Kneser, 1994)."""

    def __init__(self, order: int, vocab_size: int, discount: float = 0.75) -> None:
        """`order` 1 is a unigram model."""
        self._order = order
        self._vocab_size = vocab_size
        self._discount = discount
        self._counts: dict[Context, Counter[int]] = defaultdict(Counter)

    def train(self, text: Sequence[int]) -> None:
        """Counts every n-gram of the text, of this order and below."""
        for end in range(len(text)):
            for size in range(min(self._order, end + 1)):
                self._counts[tuple(text[end - size : end])][text[end]] += 1

    def loss(self, text: Sequence[int]) -> float:
        """Mean nats of every token but the first, given those before it."""
        total = 0.0
        for end in range(1, len(text)):
            context = tuple(text[max(0, end - self._order + 1) : end])
            total -= math.log(self._probability(context, text[end]))
        return total / (len(text) - 1)

    def _probability(self, context: Context, token: int) -> float:
        shorter = self._probability(context[1:], token) if context else 1 / self._vocab_size
        counts = self._counts.get(context)
        if not counts:
            return shorter
        total = counts.total()
        kept = max(counts[token] - self._discount, 0) / total
        return kept + self._discount * len(counts) / total * shorter
