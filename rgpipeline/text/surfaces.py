"""What each token id adds to a text, looked up once for the whole vocabulary.

Sentencepiece decodes a text as a whole, but a piece depends on its neighbours in two cases only:

- byte pieces (`<0xE6>`) join into characters, and each byte that does not is a U+FFFD;
- at the start of the text, some models drop a leading space (Gemma's keep it).

So one table of strings, and one for the start of a text, are enough. A byte above ASCII is stored
in them as the lone surrogate of Python's `surrogateescape` (PEP 383), so that encoding the joined
entries gives the bytes of the text. A control token must end a run of bytes and then vanish: it is
stored as the byte 0xFF, which no character contains.
"""

import codecs
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import sentencepiece as spm

from rgpipeline.errors import WeightsError

_CONTROL = "\udcff"
_STRAY_BYTE = re.compile("[\udc80-\udcfe]")
_REPLACEMENT = "\ufffd"


class ByteJoiner:
    """Joins surfaces to text; holds back the bytes of a character that is not complete yet."""

    def __init__(self, pending: bytes = b"") -> None:
        """Starts after `pending`, at most 3 bytes that begin a character."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._decoder.setstate((pending, 0))

    @property
    def pending(self) -> bytes:
        """The bytes held back, at most 3."""
        return bytes(self._decoder.getstate()[0])

    def join(self, surfaces: str, *, final: bool = False) -> str:
        """The text that has become certain with `surfaces`; with `final`, all text."""
        text = self._decoder.decode(surfaces.encode("utf-8", "surrogateescape"), final)
        if text.isascii():
            return text
        return _STRAY_BYTE.sub(_REPLACEMENT, text.replace(_CONTROL, ""))


@dataclass(frozen=True)
class Surfaces:
    """The surface of every piece; `ByteJoiner` joins surfaces to text."""

    body: list[str]  # what each id adds after other text
    head: list[str]  # what it adds at the very start
    keeps_start: frozenset[int]  # ids after which the text is still at its start
    unknown: str  # the surface of ids beyond the vocabulary

    @classmethod
    def of(cls, model: spm.SentencePieceProcessor, name: str = "tokenizer.model") -> Self:
        """Lets `model` decode each piece, after other text and at the start.

        Raises WeightsError when the pieces do not add up to what the model decodes (models with
        denormalization rules; no Griffin checkpoint has one).
        """
        ids = list(range(model.vocab_size()))
        alone: list[str] = model.decode([[index] for index in ids])
        anchor = next(index for index in ids if alone[index])
        after = len(alone[anchor])
        body = [text[after:] for text in model.decode([[anchor, index] for index in ids])]
        # `probe` reads differently at the start. If it does so after a piece without text, then
        # the text is still at its start after that piece.
        probe = next((index for index in ids if alone[index] != body[index]), anchor)
        keeps = {
            index
            for index in ids
            if not alone[index] and model.decode([index, probe]) == alone[probe]
        }
        marks = {index: mark for index in ids if (mark := _mark(model, index)) is not None}
        surfaces = cls(
            body=[marks.get(index, text) for index, text in enumerate(body)],
            head=[marks.get(index, text) for index, text in enumerate(alone)],
            keeps_start=frozenset(keeps),
            unknown=body[model.unk_id()],
        )
        surfaces._check(model, name)
        return surfaces

    def at_start(self, index: int) -> str:
        """The surface of any id at the very start of a text."""
        return self.head[index] if index < len(self.head) else self.unknown

    def after_text(self, index: int) -> str:
        """The surface of any id after other text."""
        return self.body[index] if index < len(self.body) else self.unknown

    @cached_property
    def start_matters(self) -> bool:
        """Whether any piece reads differently at the start of a text."""
        return self.head != self.body

    def _check(self, model: spm.SentencePieceProcessor, name: str) -> None:
        ids = [model.unk_id(), *range(model.vocab_size())]
        joined = ByteJoiner().join("".join([self.body[index] for index in ids]), final=True)
        if joined != model.decode(ids):
            raise WeightsError(
                f"{name}: its text is not the sum of its pieces (denormalization rules?); "
                f"such tokenizers are not supported"
            )


def _mark(model: spm.SentencePieceProcessor, index: int) -> str | None:
    if model.is_control(index):
        return _CONTROL
    if not model.is_byte(index):
        return None
    byte = int(model.id_to_piece(index)[3:5], 16)
    if byte == 0xFF:  # never part of a character, and its surrogate is taken
        return _REPLACEMENT
    return bytes([byte]).decode("utf-8", "surrogateescape")
