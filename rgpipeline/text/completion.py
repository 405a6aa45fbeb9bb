"""A completion's text as its tokens come: detokenised, and cut at the first stop string."""

from collections.abc import Sequence
from typing import TypedDict

from rgpipeline.text.detokenize import DetokenizerState, IncrementalDetokenizer
from rgpipeline.text.stops import Cut, StopMatcher, StopState
from rgpipeline.text.tokenizer import TokenIds, Tokenizer, as_list


class CompletionState(TypedDict):
    """A completion between two tokens; plain JSON."""

    detokenizer: DetokenizerState
    matcher: StopState
    unmatched: int


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
        """Starts a text, or goes on from what `state()` gave for the same stops.

        Stop strings that end within the first `unmatched` tokens (min_tokens) don't count.
        """
        self._detokenizer = IncrementalDetokenizer(
            tokenizer, state["detokenizer"] if state else None
        )
        self._matcher = StopMatcher(stops, state["matcher"] if state else None)
        self._unmatched = state["unmatched"] if state else unmatched

    def push(self, ids: TokenIds) -> Cut:
        """The text that is certain after `ids`, and the stop string if one was found."""
        plain = as_list(ids)
        free, plain = plain[: self._unmatched], plain[self._unmatched :]
        self._unmatched -= len(free)
        before = self._detokenizer.push(free)
        cut = self._matcher.push(self._detokenizer.push(plain))
        return Cut(before + cut.emit, cut.hit)

    def flush(self) -> Cut:
        """The rest, when no more tokens follow; a stop string may be in it."""
        last = self._matcher.push(self._detokenizer.flush())
        if last.hit is not None:
            return last
        rest = self._matcher.flush()
        return Cut(last.emit + rest.emit, rest.hit)

    def state(self) -> CompletionState:
        """What a new one for the same tokenizer and stops needs to go on from here."""
        return {
            "detokenizer": self._detokenizer.state(),
            "matcher": self._matcher.state(),
            "unmatched": self._unmatched,
        }
