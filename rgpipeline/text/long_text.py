"""Cuts long texts where no token reaches over the cut, since tokenizers take them whole.

A text of 30 MB takes sentencepiece four times longer as a whole than in pieces, and the
`tokenizers` library far longer than that. With byte-pair encoding the tokens are the same if no
token has a space after another character: then no merge crosses a cut before a space that follows
another character.
"""

from collections.abc import Iterable, Iterator

LONG = 16_384  # characters; texts up to here are left whole
SPACE = "\u2581"  # how sentencepiece writes one
_CHUNK = 4_096


def chunks(text: str) -> Iterator[str]:
    """The text in pieces of about 4,000 characters; longer where it can't be cut."""
    start = 0
    while len(text) - start > _CHUNK:
        cut = start + _CHUNK
        while (cut := text.find(" ", cut)) > 0 and text[cut - 1] in (" ", SPACE):
            cut += 1
        if cut < 0:
            break
        yield text[start:cut]
        start = cut
    yield text[start:]


def have_inner_space(pieces: Iterable[str]) -> bool:
    """Whether any piece has a space after another character."""
    return any(SPACE in piece.replace(" ", SPACE).lstrip(SPACE) for piece in pieces)
