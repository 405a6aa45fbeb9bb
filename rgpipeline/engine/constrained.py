"""Sequences that must follow a grammar: each one's position in it, and the masks of the next step.

While a slot has such a sequence, a step is two programs, not a block of several steps. The model
reads the tokens that were drawn last; meanwhile the host makes the masks. Only the draw of the next
tokens waits for these. The host reads the tokens, and moves each sequence on in its grammar, during
that, too:

    device   draw 1 | forward 2           | draw 2 | forward 3 …
    host            | read 1, make masks 2         | read 2, make masks 3 …

or before it, where the slots of sequences that end are wanted at once (`read_order`):

    device   draw 1          | forward 2    | draw 2          | forward 3 …
    host             read 1  | make masks 2          read 2   | make masks 3 …
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.checks import stop_ids
from rgpipeline.engine.grammar_protocol import Grammars, mask_words
from rgpipeline.engine.sequence import GENERATED, NO_TOKENS, Sequence
from rgpipeline.errors import RowError
from rgpipeline.records import Emission, Request
from rgpipeline.spec import StructuredOutputs

_EVERYTHING = -1  # a word with all bits set


class Ended(NamedTuple):
    """A sequence that the host ends, while the device would go on with it."""

    sequence: Sequence
    emission: Emission  # its last


def grammar_of(request: Request) -> StructuredOutputs | None:
    """The grammar that a request asks for."""
    return request.sampling.structured_outputs


def follow(sequence: Sequence, emission: Emission) -> Emission:
    """Moves a sequence on in its grammar by the tokens that it gained, which may end it."""
    matcher = sequence.matcher
    if matcher is None or emission.error is not None:
        return emission
    try:
        for token in emission.token_ids.tolist():
            matcher.consume(token)
    except RowError as error:
        return replace(failure(sequence.request, str(error)), read=emission.read)
    if matcher.finished:
        return replace(emission, finish="stop", snapshot=None)
    return emission


class Constraints:
    """The grammars of the sequences in slots."""

    def __init__(self, grammars: Grammars[Any] | None, slots: int, vocab: int) -> None:
        """`grammars`: None if requests that need one are refused."""
        self._grammars = grammars
        self._shape = (slots, mask_words(vocab))

    def check(self, request: Request) -> None:
        """Raises RowError for a grammar where there are none."""
        if self._grammars is None and grammar_of(request) is not None:
            raise RowError(
                "structured_outputs needs the model's tokenizer, and this engine was opened "
                "without one; leave structured_outputs out, or add the tokenizer"
            )

    def begin(self, sequences: Iterable[Sequence], eos_ids: tuple[int, ...]) -> list[Ended]:
        """Finds the positions of sequences that get a slot. Returns those that end at once."""
        begun = [(one, self._begin(one, eos_ids)) for one in sequences if grammar_of(one.request)]
        return [Ended(sequence, emission) for sequence, emission in begun if emission is not None]

    def _begin(self, sequence: Sequence, eos_ids: tuple[int, ...]) -> Emission | None:
        request, grammar = sequence.request, grammar_of(sequence.request)
        assert self._grammars is not None, "see `check`"
        assert grammar is not None, "see `begin`"
        if request.snapshot is not None:
            sequence.text.extend(request.snapshot.arrays[GENERATED].tolist())
        try:
            ends = stop_ids(request, eos_ids)
            sequence.matcher = self._grammars.matcher(grammar, sequence.text, ends)
        except RowError as error:
            return failure(request, str(error))
        if not sequence.matcher.finished:
            return None
        return Emission(request.key, NO_TOKENS, "stop", read=sequence.take_kept())

    def masks(self, sequences: Iterable[Sequence]) -> tuple[NDArray[np.int32], list[Ended]]:
        """The masks of all slots for the next draw, with those of these sequences.

        Returns:
          int32 [slots, words], a new array, which the device may read later; and sequences that
          can't go on.
        """
        assert self._grammars is not None, "see `check`"
        sequences = list(sequences)
        matchers = {sequence.slot: sequence.matcher for sequence in sequences}
        masks = np.full(self._shape, _EVERYTHING, np.int32)
        reasons = self._grammars.fill([matchers.get(slot) for slot in range(len(masks))], masks)
        failed = [
            Ended(sequence, failure(sequence.request, reason))
            for sequence in sequences
            if (reason := reasons[sequence.slot]) is not None
        ]
        return masks, failed


def failure(request: Request, reason: str) -> Emission:
    """A row that ends with an error."""
    return Emission(request.key, NO_TOKENS, "error", error=reason)
