"""A tokenizer.json, read by Hugging Face's `tokenizers` library."""

import json
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import tokenizers

from rgpipeline.errors import WeightsError
from rgpipeline.text.added_tokens import Declared, JsonFile, unused_tokens
from rgpipeline.text.long_text import LONG, SPACE, chunks, have_inner_space
from rgpipeline.text.surfaces import Surfaces, surface_of_bytes

_BYTE = re.compile("<0x[0-9A-Fa-f]{2}>")
# A text decoded by these adds up from its tokens, wherever they stand in it.
_PLAIN_DECODERS = {"Replace", "ByteFallback", "Fuse", "ByteLevel"}
# What stands between tokens that are decoded together; no vocabulary has it.
_BETWEEN = "\U0010fffe|"
# Gemma's rules. After the first, the second finds nothing to split.
_SPACES_REPLACED = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
_AT_SPACES = {"type": "Split", "pattern": {"String": " "}}
# Tokens by the names that most vocabularies give them, where no file says.
_USUAL = {
    "bos_token": ("<bos>", "<s>", "<|begin_of_text|>"),
    "eos_token": ("<eos>", "</s>", "<|end_of_text|>", "<|endoftext|>"),
    "unk_token": ("<unk>",),
    "pad_token": ("<pad>",),
}


class TokenizerJson:
    """The `TokenModel` of a tokenizer.json.

    As in transformers, every added token, special ones too (`<bos>`), becomes its token wherever
    it occurs in a text. Special tokens have no text. Bytes that make no character are a U+FFFD
    each, as with sentencepiece, and the characters beside them stay; the library replaces a whole
    run of byte pieces if any of its bytes is stray.
    """

    def __init__(
        self,
        file: JsonFile,
        named: Mapping[str, str] | None = None,
        declared: Iterable[Declared] = (),
    ) -> None:
        """`named` are the tokens that the other files give a role (`bos_token`). `declared` are the
        tokens that they declare; those that the file lacks are added, as in transformers. Raises
        WeightsError when the file is no such tokenizer, or `declared` contradicts it.
        """
        self.name = file.name
        self._model = _parse(file)
        decoder = _rule(self._model.decoder)
        self._decoders = [part["type"] for part in decoder.get("decoders", [decoder]) if part]
        self._has_bytes = "ByteFallback" in self._decoders
        named = named or {}
        self._add(declared)
        self._special = {
            index
            for index, token in self._model.get_added_tokens_decoder().items()
            if token.special
        }
        vocabulary = self._model.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocabulary.values(), default=-1) + 1
        self._pieces = [""] * self.vocab_size  # an id may have no token
        for piece, index in vocabulary.items():
            self._pieces[index] = piece
        unused = unused_tokens(named)
        used = (index for piece, index in vocabulary.items() if piece not in unused)
        self.required_size = max(used, default=-1) + 1
        self.bos_id = self._id(named, "bos_token")
        self.eos_id = self._id(named, "eos_token")
        self.unk_id = self._id(named, "unk_token")
        self.pad_id = self._id(named, "pad_token")

    def _add(self, declared: Iterable[Declared]) -> None:
        present = {token.content for token in self._model.get_added_tokens_decoder().values()}
        for token in sorted(declared, key=lambda token: (token.id is None, token.id or 0)):
            if token.content not in present:
                self._model.add_tokens([_added(token)])
                present.add(token.content)
            found = self._model.token_to_id(token.content)
            if token.id not in (None, found):
                raise WeightsError(
                    f"{self.name}: its token {token.content!r} has the id {found}, and the files "
                    f"beside it say {token.id}; save the tokenizer again, or name the file itself "
                    f"as model.tokenizer"
                )

    def _id(self, named: Mapping[str, str], role: str) -> int | None:
        """The id of the token with this role, by the files or else by its usual name."""
        if role in named:
            return self.piece_to_id(named[role])
        if role == "bos_token" and (first := self._model.encode("").ids):
            return int(first[0])  # what the file's own post-processor puts first
        found = map(self.piece_to_id, _USUAL[role])
        return next((index for index in found if index is not None), None)

    def encode(self, text: str) -> list[int]:
        if len(text) <= LONG or not self._can_be_cut:
            return self._encode(text)
        return [index for part in chunks(text) for index in self._encode(part)]

    def _encode(self, text: str) -> list[int]:
        try:
            ids: list[int] = self._model.encode(text, add_special_tokens=False).ids
        except TypeError:
            text.encode()  # says where half a surrogate pair is
            raise
        return ids

    @cached_property
    def _can_be_cut(self) -> bool:
        """Whether any text may be cut before a space that follows another character."""
        if not isinstance(self._model.model, tokenizers.models.BPE):
            return False
        splitter = _rule(self._model.pre_tokenizer)
        if splitter and not _AT_SPACES.items() <= splitter.items():
            return False
        if _rule(self._model.normalizer) != _SPACES_REPLACED:
            return False
        added = self._model.get_added_tokens_decoder().values()
        if any(token.lstrip or token.rstrip or token.single_word for token in added):
            return False
        return SPACE in self._pieces and not have_inner_space(self._pieces)

    def decode(self, ids: list[int]) -> str:
        return self.surfaces.decode(ids)

    def piece(self, index: int) -> str:
        return self._pieces[index] if index < self.vocab_size else ""

    def piece_to_id(self, piece: str) -> int | None:
        index: int | None = self._model.token_to_id(piece)
        return index

    @cached_property
    def special(self) -> frozenset[str]:
        return frozenset(self._pieces[index] for index in self._special)

    @cached_property
    def added(self) -> frozenset[str]:
        return frozenset(token.content for token in self._model.get_added_tokens_decoder().values())

    def is_control(self, index: int) -> bool:
        return index in self._special

    def byte(self, index: int) -> int | None:
        piece = self._pieces[index]
        return int(piece[3:5], 16) if self._has_bytes and _BYTE.fullmatch(piece) else None

    @cached_property
    def surfaces(self) -> Surfaces:
        marks = self._marks()
        if self._decoders and _PLAIN_DECODERS.issuperset(self._decoders):
            text = [marks.get(i, alone) for i, alone in enumerate(self._texts_apart())]
            surfaces = Surfaces(text, text, frozenset(), "")
        else:
            surfaces = Surfaces.probed(self._decode_each, self.vocab_size, marks, None)
        ids = [i for i in range(self.vocab_size) if self.byte(i) is None]
        if _one_for_all(surfaces.decode(ids)) != _one_for_all(self._decode_each([ids])[0]):
            raise WeightsError(
                f"{self.name}: its text is not the sum of its pieces; such decoders are not "
                f"supported ({', '.join(self._decoders)})"
            )
        return surfaces

    def _marks(self) -> dict[int, str]:
        marks = dict.fromkeys(self._special, "")
        for index, piece in enumerate(self._pieces):
            if index in marks:
                continue
            if "ByteLevel" in self._decoders:
                marks[index] = surface_of_bytes(_byte_level(piece))
            elif (byte := self.byte(index)) is not None and byte >= 0x80:
                marks[index] = surface_of_bytes(bytes([byte]))
        return marks

    def _texts_apart(self) -> list[str]:
        """The text of each token, all decoded at once: a call for each takes seconds."""
        parts = [_BETWEEN]
        for piece in self._pieces:
            parts += (piece, _BETWEEN)
        return str(self._model.decoder.decode(parts)).split(_BETWEEN)[1:-1]

    def _decode_each(self, lists: list[list[int]]) -> list[str]:
        return [self._model.decode(ids, skip_special_tokens=True) for ids in lists]


def _added(token: Declared) -> tokenizers.AddedToken:
    flags = dict.fromkeys(token.flags, True)
    return tokenizers.AddedToken(token.content, **{"normalized": False, "special": False} | flags)


def _rule(part: Any) -> dict[str, Any]:
    """What the library has read of a file's decoder or the like; empty if there is none."""
    return {} if part is None else dict(json.loads(part.__getstate__()))


def _one_for_all(text: str) -> str:
    """`text` with one U+FFFD for each run; how many bytes one stands for is no matter here."""
    return re.sub("\ufffd+", "\ufffd", text)


def _byte_level(piece: str) -> bytes:
    """The bytes that a piece of GPT-2's alphabet stands for; others stand for themselves."""
    if all(character in _ALPHABET for character in piece):
        return bytes(_ALPHABET[character] for character in piece)
    return piece.encode()


def _alphabet() -> dict[str, int]:
    """GPT-2's: printable bytes are themselves, the others the characters from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + place): byte for place, byte in enumerate(others)
    }


_ALPHABET = _alphabet()


def _parse(file: JsonFile) -> Any:
    if not isinstance(file.spec.get("model"), Mapping):
        raise WeightsError(
            f"{file.name}: has no tokenizer in it; give the checkpoint's tokenizer.json or "
            f"tokenizer.model as model.tokenizer"
        )
    try:
        model = tokenizers.Tokenizer.from_buffer(file.data)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library has no types of its own, and its panics are none
        raise WeightsError(
            f"{file.name}: the tokenizers library can't read it ({error}); copy the checkpoint's "
            f"tokenizer.json again"
        ) from error
    # Settings left from training: they would cut texts short, pad them, or draw their tokens.
    model.no_truncation()
    model.no_padding()
    if file.spec["model"].get("dropout"):
        model.model.dropout = None
    return model
