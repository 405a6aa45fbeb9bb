"""Control tokens that are spelled out in texts: found, read as tokens, or broken up.

A control token is broken up by cutting the text after its first character. No piece of the text
then spells it, so each piece can be encoded as any other text.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rgpipeline.errors import RowError
from rgpipeline.text.tokenizer import Tokenizer

# Private-use characters; the first that no text of a row holds marks the cuts.
_MARKS = range(0xF0000, 0xFFFFE)


class ControlTokens:
    """Finds control tokens in users' texts, so that they can be broken up."""

    def __init__(self, spellings: Iterable[str]) -> None:
        """`spellings`: see `Tokenizer.control_tokens`."""
        longest_first = sorted(spellings, key=len, reverse=True)
        self._any = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._beginnings = frozenset(
            token[:length] for token in longest_first for length in range(1, len(token))
        )
        self._longest = max(map(len, longest_first), default=0)

    def cuts(self, parts: Sequence[tuple[str, bool]]) -> list[int]:
        """Where to cut the text of these parts, joined, so that no user's control token is left.

        Each part is a text and whether it is a user's. A token that a user's text has a share in
        counts as the user's. Raises RowError for a token of one character, which can't be cut.
        """
        text = "".join(part for part, _ in parts)
        of_user = b"".join(bytes([user]) * len(part) for part, user in parts)  # each character
        found, start = [], 0
        while match := self._any.search(text, start):
            start = match.end()
            if True not in of_user[match.start() : start]:
                continue
            if len(match[0]) == 1:
                raise RowError(f"{match[0]!r} is a control token, which can't be kept as text")
            start = match.start() + 1  # what follows may spell another one
            found.append(start)
        return found

    def marked(self, value: Any, mark: str) -> Any:
        """`value`, a JSON value of users' texts, with `mark` at each cut.

        A token that a text only begins is cut, too: a template may join it with the next text.
        """
        if isinstance(value, str):
            cuts = {*self.cuts([(value, True)]), *self._begun(value)}
            return mark.join(pieces(value, sorted(cuts)))
        if isinstance(value, Mapping):
            return {self.marked(key, mark): self.marked(one, mark) for key, one in value.items()}
        if isinstance(value, Sequence) and not isinstance(value, bytes):
            return [self.marked(one, mark) for one in value]
        return value

    def _begun(self, text: str) -> list[int]:
        """Where to cut a token that the end of the text begins; templates strip spaces there."""
        end = text.rstrip()
        starts = range(max(0, len(end) - self._longest), len(end))
        return [start + 1 for start in starts if end[start:] in self._beginnings]


def unused_mark(value: Any, source: str) -> str:
    """A character that is neither in the texts of `value` nor in `source`."""
    used = set(source).union(*map(set, _texts(value)))
    return next(mark for mark in map(chr, _MARKS) if mark not in used)


def pieces(text: str, cuts: Sequence[int]) -> list[str]:
    """`text`, cut at these places."""
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def not_read(tokenizer: Tokenizer, spellings: Iterable[str]) -> dict[str, int]:
    """Those tokens that the tokenizer doesn't look for in a text, by how they are spelled.

    A tokenizer.model never reads its control tokens; conversions of Gemma's to a tokenizer.json
    have forgotten to declare the turn tokens.
    """
    known = {piece: tokenizer.piece_to_id(piece) for piece in spellings}
    return {
        piece: index
        for piece, index in known.items()
        if index is not None and index not in tokenizer.encode(piece, bos=False)
    }


def encode_spelled(
    tokenizer: Tokenizer, texts: Sequence[str], special: Mapping[str, int]
) -> list[int]:
    """The ids of the texts, which follow each other; what spells one of `special` is that token."""
    any_special = re.compile(f"({'|'.join(map(re.escape, special)) or '(?!)'})")
    ids: list[int] = []
    for index, text in enumerate(texts):
        for place, part in enumerate(any_special.split(text)):
            if part in special:
                ids.append(special[part])
            elif index and not place:
                ids += tokenizer.encode_after(part)
            else:
                ids += tokenizer.encode(part, bos=False)
    return ids


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, keys too, in their order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from _texts(key)
            yield from _texts(one)
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        for one in value:
            yield from _texts(one)
