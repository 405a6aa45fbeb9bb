"""Text to token ids and back, with the conventions of the official sampler."""

import logging
from collections.abc import Sequence
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from rgpipeline.errors import RowError, WeightsError
from rgpipeline.storage.filesystems import StorageOptions
from rgpipeline.text.long_text import SPACE
from rgpipeline.text.surfaces import Surfaces
from rgpipeline.text.tokenizer_files import find_tokenizer

# Tokens that begin or end a turn in the usual chat formats; a tokenizer has those of its model.
TURN_STARTS = ("<start_of_turn>", "<|im_start|>", "<|start_header_id|>", "<|turn>", "[INST]")
TURN_ENDS = ("<end_of_turn>", "<|im_end|>", "<|eot_id|>", "<turn|>", "[/INST]")
TURNS = (*TURN_STARTS, *TURN_ENDS)

TokenIds = Sequence[int] | NDArray[np.integer]

_log = logging.getLogger(__name__)


class TokenModel(Protocol):
    """A tokenizer as its file has it: `SentencePieceModel` or `TokenizerJson`."""

    name: str  # of the file, for errors
    vocab_size: int  # one more than the largest id
    required_size: int  # the same, without tokens that prompts don't need, such as padding
    bos_id: int | None
    eos_id: int | None
    unk_id: int | None
    pad_id: int | None

    def encode(self, text: str) -> list[int]:
        """The token ids of the text alone. Raises UnicodeEncodeError."""

    def decode(self, ids: list[int]) -> str:
        """The text of ids >= 0, whole."""

    def piece(self, index: int) -> str:
        """The piece of an id, as the file spells it."""

    def piece_to_id(self, piece: str) -> int | None:
        """The id of exactly this piece, None when there is none."""

    def is_control(self, index: int) -> bool:
        """Whether the id has no text, as BOS."""

    def byte(self, index: int) -> int | None:
        """The byte that the id stands for (`<0xE6>`), None if it is no such piece."""

    @property
    def special(self) -> frozenset[str]:
        """The tokens that the file calls special (control symbols), as they are spelled."""

    @property
    def added(self) -> frozenset[str]:
        """The tokens that are found whole in a text, as they are spelled: user-defined symbols of
        sentencepiece, added tokens of a tokenizer.json.
        """

    @property
    def surfaces(self) -> Surfaces:
        """What each id adds to a text; built on first use."""


class Tokenizer:
    """Text to token ids and back.

    Which symbols become their own token where they occur in a text is the file's matter; see
    `SentencePieceModel` and `TokenizerJson`.
    """

    def __init__(
        self,
        model: TokenModel,
        missing: tuple[str, ...] = (),
        note: str = "",
        special: frozenset[str] = frozenset(),
    ) -> None:
        """`missing` are tokens of the checkpoint that `model` lacks; no text may spell them.

        `note` says which file was chosen, where two differ. `special` are tokens that other files
        call so. Raises WeightsError when the model has no BOS or EOS piece.
        """
        self._model, self._missing, self._special, self.note = model, missing, special, note
        self.vocab_size: int = model.vocab_size
        self.bos_id: int = self._required(model.bos_id, "BOS")
        self.eos_id: int = self._required(model.eos_id, "EOS")
        self.unk_id, self.pad_id = model.unk_id, model.pad_id

    def _required(self, index: int | None, role: str) -> int:
        if index is None:
            raise WeightsError(
                f"{self._model.name}: has no {role} piece; it is not a Gemma tokenizer, or the "
                f"tokenizer_config.json that says which one it is isn't beside it"
            )
        return index

    @classmethod
    def load(cls, url: str, storage_options: StorageOptions | None = None) -> Self:
        """Reads a tokenizer.model or tokenizer.json, or the one in a folder, at any fsspec URL.

        A folder is refused if its other files add tokens that its tokenizer.model lacks, and
        it has no tokenizer.json; if `url` is a tokenizer.model, only that is read. Raises
        WeightsError; StoreError as `read_file`.
        """
        found = cls.find(url, storage_options)
        if found is None:
            raise WeightsError(
                f"{url}: no tokenizer.model or tokenizer.json there; only prompts of token ids do "
                f"without, scored or with output.token_ids: true. Copy the checkpoint's tokenizer "
                f"there, or give its address as model.tokenizer"
            )
        return found

    @classmethod
    def find(cls, url: str, storage_options: StorageOptions | None = None) -> Self | None:
        """As `load`, but None if there is no such file."""
        found = find_tokenizer(url, storage_options)
        if found is None:
            return None
        if found.note:
            _log.info("%s", found.note)
        return cls(found.model, found.missing, found.note, found.special)

    def require_within(self, vocab_size: int) -> None:
        """Raises WeightsError if it has ids that a model of `vocab_size` tokens lacks.

        Tokens for padding and masks may be beyond: training scripts add them to the tokenizer
        alone. A model may have more tokens: its rows are often padded to a multiple.
        """
        required = self._model.required_size
        if required > vocab_size:
            raise WeightsError(
                f"{self._model.name}: the tokenizer has {required:,} tokens, the model only "
                f"{vocab_size:,}; name the tokenizer that belongs to the model as model.tokenizer"
            )

    def encode(self, text: str, *, bos: bool = True) -> list[int]:
        """The token ids of `text`, with BOS first unless `bos` is false; EOS is never added.

        No second BOS is put before a text that a tokenizer.json reads as beginning with one.

        Raises RowError when `text` is not a str, holds half of a surrogate pair, or spells out a
        padding or mask token that only the checkpoint's other files declare.
        """
        if not isinstance(text, str):
            raise RowError(f"text is expected, found {type(text).__name__}")
        for token in self._missing:
            if token in text:
                raise RowError(
                    f"the text holds {token!r}, a token that tokenizer.model lacks; remove it"
                )
        try:
            ids = self._model.encode(text)
        except UnicodeEncodeError as error:
            raise RowError(
                f"the text is not valid Unicode: half a surrogate pair at character "
                f"{error.start}; remove or mend it"
            ) from error
        return [self.bos_id, *ids] if bos and ids[:1] != [self.bos_id] else ids

    def encode_after(self, text: str) -> list[int]:
        """The token ids of a text that stands after other text. Raises RowError as `encode`.

        Some tokenizers put a space before a text; so the text is encoded after a line break, whose
        ids are then left out.
        """
        before, ids = self._model.encode("\n"), self.encode(f"\n{text}", bos=False)
        if ids[: len(before)] == before:
            return ids[len(before) :]
        return self.encode(text, bos=False)

    def control_tokens(self, written: str = "") -> frozenset[str]:
        """The tokens that mean more than their text, as they are spelled.

        Special tokens (BOS, EOS, …), the tokens of turns, and the added ones, other than spaces,
        that stand in `written`, the text of a chat template.
        """
        ids = (self.bos_id, self.eos_id, self.unk_id, self.pad_id)
        named = {self.piece(index) for index in ids if index is not None}
        turns = {piece for piece in TURNS if self.piece_to_id(piece) is not None}
        added = {piece for piece in self._model.added if piece in written}
        found = named | turns | added | self._model.special | self._special | {*self._missing}
        return frozenset(piece for piece in found if piece.replace(SPACE, " ").strip())

    def decode(self, ids: TokenIds) -> str:
        """The text of `ids` alone; control tokens (BOS, EOS, padding) have no text.

        A model's vocabulary may be larger than its tokenizer's: ids beyond that decode as the
        unknown piece of a tokenizer.model (" ⁇ "), and as nothing with a tokenizer.json. Raises
        ValueError on a negative id.
        """
        return self._model.decode(as_list(ids))

    def piece(self, index: int) -> str:
        """The piece of id `index`, as the model file spells it."""
        return self._model.piece(index)

    def token_text(self, index: int, first: bool = False) -> str:
        """The text of one token, `first` at the start of a text, as OpenAI's answers spell it.

        Part of a character is `bytes:\\xe2\\x80`; a control token is its piece (`<eos>`); an id
        beyond the vocabulary is `token_id:300000`.
        """
        if index >= self.vocab_size:
            return f"token_id:{index}"
        if self._model.is_control(index):
            return self.piece(index)
        byte = self._model.byte(index)
        if byte is not None:
            return chr(byte) if byte < 0x80 else f"bytes:\\x{byte:02x}"
        text = self.surfaces.head[index] if first else self.surfaces.body[index]
        try:
            text.encode()
        except UnicodeEncodeError:  # a piece of bytes, not all of them whole characters
            found = text.encode("utf-8", "surrogateescape")
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in found)
        return text

    def piece_to_id(self, piece: str) -> int | None:
        """The id of exactly this piece, None when the vocabulary lacks it."""
        return self._model.piece_to_id(piece)

    @property
    def surfaces(self) -> Surfaces:
        """The surface of each id; built on first use, shared by all detokenizers."""
        return self._model.surfaces


def as_list(ids: TokenIds) -> list[int]:
    """`ids` as plain ints. Raises ValueError on a negative one."""
    plain: list[int] = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
    if plain and min(plain) < 0:
        raise ValueError(f"token id {min(plain)} is negative")
    return plain
