"""What each token id adds to a text, looked up once for the whole vocabulary.

A tokenizer decodes a text as a whole, but a piece depends on its neighbours in two cases only:

- byte pieces (`<0xE6>`) join into characters, and each byte that does not is a U+FFFD;
- at the start of the text, some models drop a leading space (Gemma's keep it).

So one table of strings, and one for the start of a text, are enough. A byte above ASCII is stored
in them as the lone surrogate of Python's `surrogateescape` (PEP 383), so that encoding the joined
entries gives the bytes of the text. A control token of sentencepiece must end a run of bytes and
then vanish: it is stored as the byte 0xFF, which no character contains.
"""

import codecs
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

CONTROL = "\udcff"
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
        return _STRAY_BYTE.sub(_REPLACEMENT, text.replace(CONTROL, ""))


def surface_of_bytes(data: bytes) -> str:
    """The surface of a piece that stands for these bytes."""
    # 0xFF is never part of a character, and its surrogate is CONTROL.
    return data.decode("utf-8", "surrogateescape").replace(CONTROL, _REPLACEMENT)


@dataclass(frozen=True)
class Surfaces:
    """The surface of every piece; `ByteJoiner` joins surfaces to text."""

    body: list[str]  # what each id adds after other text
    head: list[str]  # what it adds at the very start
    keeps_start: frozenset[int]  # ids after which the text is still at its start
    unknown: str  # the surface of ids beyond the vocabulary

    @classmethod
    def probed(
        cls,
        decode: Callable[[list[list[int]]], list[str]],
        size: int,
        marks: Mapping[int, str],
        unknown: int | None,
    ) -> Self:
        """Lets `decode` decode each of `size` ids, after other text and at the start.

        `marks` are the surfaces of ids that have no text of their own, such as bytes. Ids beyond
        the vocabulary read as the id `unknown`, or as nothing.
        """
        ids = range(size)
        alone = decode([[index] for index in ids])
        anchor = next((index for index in ids if alone[index] and index not in marks), 0)
        after = len(alone[anchor])
        body = [text[after:] for text in decode([[anchor, index] for index in ids])]
        # `probe` reads differently at the start. If it does so after a piece without text, then
        # the text is still at its start after that piece.
        probe = next((index for index in ids if alone[index] != body[index]), anchor)
        empty = [index for index in ids if not alone[index]]
        followed = decode([[index, probe] for index in empty])
        keeps = {i for i, text in zip(empty, followed, strict=True) if text == alone[probe]}
        return cls(
            body=[marks.get(index, text) for index, text in enumerate(body)],
            head=[marks.get(index, text) for index, text in enumerate(alone)],
            keeps_start=frozenset(keeps),
            unknown="" if unknown is None else body[unknown],
        )

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

    def decode(self, ids: list[int]) -> str:
        """The text of `ids`, whole."""
        start, at_start = 0, self.start_matters
        while at_start and start < len(ids):
            at_start = ids[start] in self.keeps_start
            start += 1
        head, body = map(self.at_start, ids[:start]), map(self.after_text, ids[start:])
        return ByteJoiner().join("".join([*head, *body]), final=True)
