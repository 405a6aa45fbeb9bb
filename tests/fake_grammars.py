"""Grammars over token ids that can be worked out by hand, in place of those over texts.

`Rule(3, 5)` wants five multiples of 3, other than end-of-sequence. After `may_end` of them the text
may end, so end-of-sequence is allowed, too.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.grammar_protocol import mask_words
from rgpipeline.errors import RowError
from rgpipeline.spec import Sampling


@dataclass(frozen=True)
class Rule:
    multiple: int
    tokens: int
    may_end: int | None = None
    breaks: int | None = None  # after so many tokens the mask can't be made
    rejects: int | None = None  # a token that is allowed and then refused

    def allows(self, count: int, eos_ids: Sequence[int], vocab: int) -> NDArray[np.bool_]:
        """The tokens that may follow `count` others."""
        allowed = np.arange(vocab) % self.multiple == 0
        allowed[list(eos_ids)] = self.may_end is not None and count >= self.may_end
        return allowed


class WithGrammar(Sampling):
    """Sampling with a rule for a grammar."""

    structured_outputs: Any = None


@dataclass
class CountingMatcher:
    rule: Rule
    consumed: list[int] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        return len(self.consumed) >= self.rule.tokens

    def consume(self, token: int) -> None:
        if token == self.rule.rejects:
            raise RowError(f"the rule does not go on by {token}")
        assert token % self.rule.multiple == 0, "a token that the mask did not allow"
        assert not self.finished
        self.consumed.append(token)


class FakeGrammars:
    def __init__(self, vocab: int, eos_ids: Sequence[int]) -> None:
        self._vocab, self._eos_ids = vocab, eos_ids

    def matcher(
        self, grammar: Rule, tokens: Sequence[int], ends: Collection[int] = ()
    ) -> CountingMatcher:
        if grammar.multiple < 1:
            raise RowError(f"no token is a multiple of {grammar.multiple}")
        matcher = CountingMatcher(grammar)
        for token in tokens:
            matcher.consume(token)
        return matcher

    def fill(
        self, matchers: Sequence[CountingMatcher | None], rows: NDArray[np.int32]
    ) -> list[str | None]:
        assert rows.shape == (len(matchers), mask_words(self._vocab))
        reasons: list[str | None] = []
        for matcher, row in zip(matchers, rows, strict=True):
            if matcher is None:
                reasons.append(None)
                continue
            assert not matcher.finished
            count = len(matcher.consumed)
            bits = np.zeros(32 * len(row), np.bool_)
            bits[: self._vocab] = matcher.rule.allows(count, self._eos_ids, self._vocab)
            row[:] = np.packbits(bits, bitorder="little").view(np.int32)
            reasons.append("the rule broke" if count == matcher.rule.breaks else None)
        return reasons
