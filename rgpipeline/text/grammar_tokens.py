"""A tokenizer as llguidance needs it: the bytes of each token, and a function from text to ids."""

from collections.abc import Callable, Sequence

from rgpipeline.text.surfaces import CONTROL
from rgpipeline.text.tokenizer import Tokenizer

_SPECIAL = b"\xff"  # before the name of a token that no text has; UTF-8 lacks this byte
# In a tokenizer.model they are texts, but a model writes them only between turns.
TURN_PIECES = ("<start_of_turn>", "<end_of_turn>")
_WHOLE = 4096  # characters of a forced text that are split as the tokenizer does


class GrammarTokens:
    """What `LLTokenizer` takes as a `TokenizerWrapper`."""

    is_tokenizer_wrapper = True

    def __init__(
        self, tokenizer: Tokenizer, vocab_size: int, eos_ids: Sequence[int], *, start: bool = False
    ) -> None:
        """`vocab_size` and `eos_ids` are the model's.

        `start`: with the bytes of each token at the start of a text. Some sentencepiece models drop
        the first space of a text (Gemma's don't).
        """
        self._tokenizer = tokenizer
        self.eos_token_id = eos_ids[0] if eos_ids else tokenizer.eos_id
        self.bos_token_id = None
        surfaces = tokenizer.surfaces.head if start else tokenizer.surfaces.body
        texts = _token_bytes(tokenizer, surfaces, vocab_size, exclude=eos_ids)
        self.special_token_ids = [i for i, text in enumerate(texts) if text is None]
        self.tokens = [
            _SPECIAL + b"<%d>" % index if text is None else text for index, text in enumerate(texts)
        ]
        self.fallback: Callable[[str], list[int]] = lambda text: []

    def __call__(self, text: str) -> list[int]:
        """The ids of a text that the grammar forces.

        Those of the tokenizer, if their bytes are the text's: a space may be put before it, or
        `<eos>` in it may be read as the token. Of a very long text only the beginning is split so.
        """
        head, rest = text[:_WHOLE], text[_WHOLE:]
        ids = self._tokenizer.encode(head, bos=False)
        if b"".join(self._bytes(index) for index in ids) != head.encode():
            ids = self.fallback(head)
        return ids + self.fallback(rest) if rest else ids

    def _bytes(self, index: int) -> bytes:
        return self.tokens[index] if index < len(self.tokens) else _SPECIAL


def _token_bytes(
    tokenizer: Tokenizer, surfaces: Sequence[str], vocab_size: int, exclude: Sequence[int]
) -> list[bytes | None]:
    """The bytes of each id, None where it has none."""
    known = min(vocab_size, tokenizer.vocab_size)
    texts: list[bytes | None] = [
        None if surface in ("", CONTROL) else surface.encode("utf-8", "surrogateescape")
        for surface in surfaces[:known]
    ]
    texts += [None] * (vocab_size - known)
    unknown = [] if tokenizer.unk_id is None else [tokenizer.unk_id]
    turns = (tokenizer.piece_to_id(piece) for piece in TURN_PIECES)
    for index in (*exclude, *unknown, *(turn for turn in turns if turn is not None)):
        if index < vocab_size:
            texts[index] = None
    return texts
