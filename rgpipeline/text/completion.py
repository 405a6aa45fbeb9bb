"""A completion's text while its tokens arrive: detokenized, and cut at the first stop string."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypedDict

from rgpipeline.text.stops import Cut, StopMatcher, StopState
from rgpipeline.text.surfaces import ByteJoiner
from rgpipeline.text.tokenizer import TokenIds, Tokenizer, as_list


class DetokenizerState(TypedDict):
    """A detokenizer between two tokens; plain JSON."""

    at_start: bool
    pending: str  # hexadecimal: the bytes of an unfinished character


class IncrementalDetokenizer:
    """Decodes one sequence piece by piece.

    The pieces joined are exactly `tokenizer.decode` of all ids at once, however the ids are split.
    At most 3 bytes are held back, so memory is constant. As in the official sampler, the ids are
    decoded alone, without the prompt before them.
    """

    def __init__(self, tokenizer: Tokenizer, state: DetokenizerState | None = None) -> None:
        """Starts a text, or resumes one from what `state()` returned."""
        surfaces = tokenizer.surfaces
        self._surfaces = surfaces
        self._at_start = state["at_start"] if state else surfaces.start_matters
        self._joiner = ByteJoiner(bytes.fromhex(state["pending"]) if state else b"")

    def push(self, ids: TokenIds) -> str:
        """The text that has become certain with `ids`, [n] >= 0.

        Ids beyond the tokenizer's vocabulary read as the unknown piece. Raises ValueError on a
        negative id.
        """
        plain = as_list(ids)
        head = self._take_head(plain) if self._at_start else ""
        try:
            body = "".join(map(self._surfaces.body.__getitem__, plain))
        except IndexError:
            body = "".join(map(self._surfaces.after_text, plain))
        return self._joiner.join(head + body)

    def flush(self) -> str:
        """The rest, when no more ids follow: a U+FFFD for each byte still held back."""
        return self._joiner.join("", final=True)

    def state(self) -> DetokenizerState:
        """What a new detokenizer of the same tokenizer needs to continue."""
        return {"at_start": self._at_start, "pending": self._joiner.pending.hex()}

    def _take_head(self, ids: list[int]) -> str:
        """Removes the ids at the start of the text from `ids`; returns their surfaces there."""
        head = []
        for index in ids:
            head.append(self._surfaces.at_start(index))
            self._at_start = index in self._surfaces.keeps_start
            if not self._at_start:
                break
        del ids[: len(head)]
        return "".join(head)


class CompletionState(TypedDict):
    """A completion between two tokens; plain JSON."""

    detokenizer: DetokenizerState
    matcher: StopState
    unmatched: int


class Pushed(NamedTuple):
    """The text that some tokens have made certain."""

    emit: str  # text that can't be part of a stop string any more
    hit: str | None  # the stop string found; nothing after `emit` belongs to the completion
    tokens: int  # pushed tokens that belong to the sequence: up to the one that completed the hit


class SequenceText(Protocol):
    """Makes the text of a sequence's tokens."""

    def push(self, ids: TokenIds) -> Pushed:
        """Takes the next tokens."""

    def flush(self) -> Cut:
        """The rest, when no more tokens follow."""

    def state(self) -> CompletionState | None:
        """What is saved with a snapshot; None if there is nothing to save."""


class NoText:
    """A sequence of a model without a tokenizer: its tokens count, but have no text."""

    def push(self, ids: TokenIds) -> Pushed:
        return Pushed("", None, len(ids))

    def flush(self) -> Cut:
        return Cut("", None)

    def state(self) -> None:
        return None


class CompletionText:
    """One sequence's text; constant memory, however long it gets."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        stops: Sequence[str] = (),
        *,
        unmatched: int = 0,
        state: CompletionState | None = None,
    ) -> None:
        """Starts a text, or resumes one from what `state()` returned for the same stops.

        Stop strings that end within the first `unmatched` tokens (min_tokens) are ignored.
        """
        self._tokenizer = tokenizer
        self._detokenizer = IncrementalDetokenizer(tokenizer)
        self._matcher = StopMatcher(stops)
        self._unmatched = unmatched
        if state is not None:
            self._restore(state)

    def push(self, ids: TokenIds) -> Pushed:
        """Takes any number of next tokens; after a stop string all further ones are dropped.

        The result does not depend on how the tokens are divided into calls.
        """
        plain = as_list(ids)
        if self._matcher.hit is not None:
            return Pushed("", self._matcher.hit, 0)
        before = self.state() if self._matcher.stops else None
        cut = self._take(plain)
        if cut.hit is None or before is None:
            return Pushed(cut.emit, cut.hit, len(plain))
        return self._replay(before, plain)

    def flush(self) -> Cut:
        """The rest, when no more tokens follow; a stop string may be in it."""
        last = self._matcher.push(self._detokenizer.flush())
        if last.hit is not None:
            return last
        rest = self._matcher.flush()
        return Cut(last.emit + rest.emit, rest.hit)

    def state(self) -> CompletionState:
        """What a new one for the same tokenizer and stops needs to continue."""
        return {
            "detokenizer": self._detokenizer.state(),
            "matcher": self._matcher.state(),
            "unmatched": self._unmatched,
        }

    def _restore(self, state: CompletionState) -> None:
        self._detokenizer = IncrementalDetokenizer(self._tokenizer, state["detokenizer"])
        self._matcher = StopMatcher(self._matcher.stops, state["matcher"])
        self._unmatched = state["unmatched"]

    def _take(self, plain: list[int]) -> Cut:
        if not self._unmatched:  # the usual case
            return self._matcher.push(self._detokenizer.push(plain))
        free, matched = plain[: self._unmatched], plain[self._unmatched :]
        self._unmatched -= len(free)
        before = self._detokenizer.push(free)
        cut = self._matcher.push(self._detokenizer.push(matched))
        return Cut(before + cut.emit, cut.hit)

    def _replay(self, before: CompletionState, plain: list[int]) -> Pushed:
        """Restores `before`, and finds the token that completed the hit; later ones are dropped."""
        self._restore(before)
        emitted = []
        for count, index in enumerate(plain, start=1):
            cut = self._take([index])
            emitted.append(cut.emit)
            if cut.hit is not None:
                return Pushed("".join(emitted), cut.hit, count)
        raise AssertionError("a stop string found in a block is found token by token")
