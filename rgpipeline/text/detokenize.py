"""Text as it comes: token ids in, the text they make certain out."""

from typing import TypedDict

from rgpipeline.text.surfaces import ByteJoiner
from rgpipeline.text.tokenizer import TokenIds, Tokenizer, as_list


class DetokenizerState(TypedDict):
    """A detokenizer between two tokens; plain JSON."""

    at_start: bool
    pending: str  # hexadecimal: the bytes of an unfinished character


class IncrementalDetokenizer:
    """Decodes one sequence piece by piece.

    The pieces joined are exactly `tokenizer.decode` of all ids at once, however the ids were
    split. Memory is constant: at most 3 bytes are held back. As with the official sampler, the
    ids are a text of their own: what comes before them (the prompt) has no part in it.
    """

    def __init__(self, tokenizer: Tokenizer, state: DetokenizerState | None = None) -> None:
        """Starts a text, or goes on from what `state()` gave."""
        surfaces = tokenizer.surfaces
        self._surfaces = surfaces
        self._at_start = state["at_start"] if state else surfaces.start_matters
        self._joiner = ByteJoiner(bytes.fromhex(state["pending"]) if state else b"")

    def push(self, ids: TokenIds) -> str:
        """The text that is certain now and was not before `ids`, [n] >= 0, were known.

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
        """What a new detokenizer of the same tokenizer needs to go on from here."""
        return {"at_start": self._at_start, "pending": self._joiner.pending.hex()}

    def _take_head(self, ids: list[int]) -> str:
        """Removes from `ids` those at the start of the text; their surfaces there."""
        head = []
        for index in ids:
            head.append(self._surfaces.at_start(index))
            self._at_start = index in self._surfaces.keeps_start
            if not self._at_start:
                break
        del ids[: len(head)]
        return "".join(head)
