"""What the loop asks of grammars: a mask over the vocabulary for each sequence that has one.

Free of jax, and of any library that knows grammars. A mask is a row of bits, packed in int32: token
t is allowed if bit t % 32 of word t // 32 is set.
"""

from collections.abc import Collection, Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from rgpipeline.spec import StructuredOutputs

MASK_BITS = 32  # tokens in one word of a mask


def mask_words(vocab: int) -> int:
    """Words of one mask."""
    return -(-vocab // MASK_BITS)


class Matcher(Protocol):
    """One sequence's position in its grammar."""

    @property
    def finished(self) -> bool:
        """Whether the text is whole: nothing may follow it but end-of-sequence."""
        ...

    def consume(self, token: int) -> None:
        """Goes on by a token that was drawn from the mask; never one that ended the sequence.

        Raises:
          RowError: the grammar does not go on so; the message says why.
        """
        ...


AnyMatcher = TypeVar("AnyMatcher", bound=Matcher)


class Grammars(Protocol[AnyMatcher]):
    """The grammars of one worker, all for the same tokenizer."""

    def matcher(
        self, grammar: StructuredOutputs, tokens: Sequence[int], ends: Collection[int]
    ) -> AnyMatcher:
        """The position after some tokens of a new text.

        Args:
          grammar: what the row asks for.
          tokens: generated already; not empty if a sequence is resumed.
          ends: the tokens that end the sequence. Where the grammar accepts the text so far, the
            masks allow those of them that have no text; the others are texts like any token's.

        Raises:
          RowError: the grammar can't be compiled, or does not accept the tokens.
        """
        ...

    def fill(
        self, matchers: Sequence[AnyMatcher | None], rows: NDArray[np.int32]
    ) -> list[str | None]:
        """Writes the masks of these matchers, in parallel; none of them is finished.

        Args:
          matchers: of each row; None leaves the row as it is.
          rows: [n, `mask_words`].

        Returns:
          For each row None, or why its matcher failed: the error of its sequence. To allow no token
          is a failure.
        """
        ...
