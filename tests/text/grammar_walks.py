"""Walks through a grammar by its masks, as a model would be led through it."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rgpipeline.errors import RowError
from rgpipeline.spec import StructuredOutputs
from rgpipeline.text.grammars import TextGrammars, TextMatcher
from rgpipeline.text.tokenizer import Tokenizer

Choose = Callable[[list[int]], int]


class Walks:
    """One tokenizer's grammars, for a model with some more tokens than it."""

    def __init__(self, tokenizer: Tokenizer, *, more: int = 29) -> None:
        self.tokenizer = tokenizer
        self.vocab = tokenizer.vocab_size + more
        self.eos = tokenizer.eos_id
        self.grammars = TextGrammars(tokenizer, self.vocab, [self.eos])

    def masks(self, matchers: Sequence[TextMatcher]) -> tuple[NDArray[np.int32], list[str | None]]:
        rows = np.zeros((len(matchers), -(-self.vocab // 32)), np.int32)
        return rows, self.grammars.fill(matchers, rows)

    def allowed(self, matcher: TextMatcher) -> list[int]:
        """The tokens that the mask allows."""
        rows, [fault] = self.masks([matcher])
        assert fault is None, fault
        return self.tokens_in(rows[0])

    def tokens_in(self, row: NDArray[np.int32]) -> list[int]:
        """The tokens that a mask allows."""
        found: list[int] = np.flatnonzero(
            np.unpackbits(row.view(np.uint8), bitorder="little")
        ).tolist()
        assert not found or found[-1] < self.vocab
        return found

    def accepts(self, text: str, **structured: Any) -> bool:
        """Whether the masks allow each token of a text, and its end. Raises RowError."""
        matcher = self.grammars.matcher(StructuredOutputs(**structured), [])
        for token in self.tokenizer.encode(text, bos=False):
            if matcher.finished or token not in self.allowed(matcher):
                return False
            matcher.consume(token)
        return matcher.finished or self.eos in self.allowed(matcher)

    def fault(self, **structured: Any) -> str:
        """Why no text can have this grammar."""
        try:
            self.grammars.matcher(StructuredOutputs(**structured), [])
        except RowError as error:
            return str(error)
        raise AssertionError("it was compiled")

    def walk(self, choose: Choose, limit: int, **structured: Any) -> tuple[list[int], bool]:
        """Tokens, one chosen from each mask; and whether the text is whole."""
        matcher = self.grammars.matcher(StructuredOutputs(**structured), [])
        tokens: list[int] = []
        while not matcher.finished and len(tokens) < limit:
            token = choose(self.allowed(matcher))
            if token == self.eos:
                return tokens, True
            tokens.append(token)
            matcher.consume(token)
        return tokens, matcher.finished
