"""What ends a text: stop strings, found in text that arrives in pieces, and stop tokens."""

import re
from collections.abc import Sequence
from typing import NamedTuple, TypedDict

from rgpipeline.spec import Sampling
from rgpipeline.text.tokenizer import Tokenizer


class Cut(NamedTuple):
    """The text that a piece has made certain."""

    emit: str  # text that can't be part of a stop string any more
    hit: str | None  # the stop string found; nothing after `emit` belongs to the completion


class StopState(TypedDict):
    """A matcher between two pieces; plain JSON."""

    held: str
    hit: str | None


class StopMatcher:
    """Cuts a text before the first occurrence of one of `stops`.

    The result is that of searching the whole text, however it is split: the leftmost occurrence
    counts, and if several begin there, the shortest. Only text that may become a stop string is
    held back, so always less than the longest one.
    """

    def __init__(self, stops: Sequence[str], state: StopState | None = None) -> None:
        """Starts a text, or resumes one from what `state()` returned for the same stops.

        Raises ValueError when a stop string is empty.
        """
        if not all(stops):
            raise ValueError("a stop string is empty")
        self.stops = tuple(stops)
        shortest_first = sorted(self.stops, key=len)
        self._any = re.compile("|".join(map(re.escape, shortest_first))) if stops else None
        self._held: str = state["held"] if state else ""
        self.hit: str | None = state["hit"] if state else None

    def push(self, text: str) -> Cut:
        """Takes the next piece. After a hit all further text is dropped."""
        if self._any is None or self.hit is not None:
            return Cut("" if self.hit else text, self.hit)
        text = self._held + text
        found = self._any.search(text)
        partial = self._first_partial(text)
        if found and found.start() <= partial:
            self._held, self.hit = "", found.group()
            return Cut(text[: found.start()], self.hit)
        # A longer stop string that began before `found` comes first if it gets completed.
        self._held = text[partial:]
        return Cut(text[:partial], None)

    def flush(self) -> Cut:
        """The rest, when no more text follows; a stop string may be in it."""
        text, self._held = self._held, ""
        if self._any is None or self.hit is not None:
            return Cut(text, self.hit)
        found = self._any.search(text)
        if found is None:
            return Cut(text, None)
        self.hit = found.group()
        return Cut(text[: found.start()], self.hit)

    def state(self) -> StopState:
        """What a new matcher of the same stops needs to continue."""
        return {"held": self._held, "hit": self.hit}

    def _first_partial(self, text: str) -> int:
        """The start of the longest end of `text` that begins a stop string; else its length."""
        first = len(text)
        for stop in self.stops:
            start = text.find(stop[0], max(0, len(text) - len(stop) + 1), first)
            while start >= 0 and not stop.startswith(text[start:]):
                start = text.find(stop[0], start + 1, first)
            if start >= 0:
                first = start
        return first


_NAME = re.compile(r"<[^<>\s]+>")


def with_turn_end(sampling: Sampling, turn_end: Sequence[int]) -> Sampling:
    """`sampling` for a chat, which also ends at the token that ends the model's turn."""
    return sampling if sampling.ignore_eos else _with(sampling, turn_end)


def with_named_tokens(sampling: Sampling, tokenizer: Tokenizer) -> Sampling:
    """`sampling`, with `stop_ids` for stop strings that name tokens without text, such as `<eos>`.

    No text ever contains such a token. The stop strings stay, because a model may also write one
    character by character.
    """
    found = (token_without_text(stop, tokenizer) for stop in sampling.stop)
    named = [index for index in found if index is not None]
    return _with(sampling, named)


def never_found(stops: Sequence[str], tokenizer: Tokenizer) -> list[tuple[str, str]]:
    """Stop strings that contain a token without text beside other text; each with that token."""
    return [
        (stop, name)
        for stop in stops
        for name in _NAME.findall(stop)
        if name != stop and token_without_text(name, tokenizer) is not None
    ]


def token_without_text(name: str, tokenizer: Tokenizer) -> int | None:
    """The id of the token that is called `name` and adds nothing to a text; None if none is."""
    index = tokenizer.piece_to_id(name)
    return index if index is not None and not tokenizer.decode([index]) else None


def _with(sampling: Sampling, ids: Sequence[int]) -> Sampling:
    stop_ids = tuple(dict.fromkeys((*sampling.stop_ids, *ids)))
    more = stop_ids != sampling.stop_ids
    return sampling.model_copy(update={"stop_ids": stop_ids}) if more else sampling
