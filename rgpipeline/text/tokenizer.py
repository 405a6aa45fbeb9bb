"""The sentencepiece tokenizer, with the conventions of the official sampler."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Self

import numpy as np
import sentencepiece as spm
from numpy.typing import NDArray
from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2

from rgpipeline.errors import RowError, WeightsError
from rgpipeline.storage.filesystems import StorageOptions
from rgpipeline.storage.small_files import read_file, read_in, require_content
from rgpipeline.text.added_tokens import missing_tokens
from rgpipeline.text.surfaces import Surfaces

TokenIds = Sequence[int] | NDArray[np.integer]

_FILE = "tokenizer.model"
_OFFICIAL_MARK = "_METADATA"  # orbax's: a checkpoint of the official library


class Tokenizer:
    """Text to token ids and back.

    Symbols that the model file declares as user-defined (`<start_of_turn>` in Gemma's) become
    their own token wherever they occur in a text, also in the user's, as in the official sampler
    and in Gemma's tokenizer. Control symbols (`<bos>`, `<eos>`) never do: in a text they are
    ordinary characters.
    """

    def __init__(self, model: bytes, name: str = _FILE) -> None:
        """Reads a serialized sentencepiece model; errors call it `name`.

        Raises WeightsError when the bytes are no such model or it lacks a BOS or EOS piece.
        """
        self._name = name
        self._model = _parse(model, name)
        self.vocab_size: int = self._model.vocab_size()
        self.bos_id: int = self._model.bos_id()
        self.eos_id: int = self._model.eos_id()
        self.unk_id: int = self._model.unk_id()
        pad = self._model.pad_id()
        self.pad_id: int | None = None if pad < 0 else pad
        self._missing: tuple[str, ...] = ()  # tokens of the checkpoint that the model file lacks
        for piece, index in (("BOS", self.bos_id), ("EOS", self.eos_id)):
            if index < 0:
                raise WeightsError(f"{name}: has no {piece} piece; it is not a Gemma tokenizer")

    @classmethod
    def load(cls, url: str, storage_options: StorageOptions | None = None) -> Self:
        """Reads a sentencepiece model from any fsspec URL; a folder means its tokenizer.model.

        In the official release it is not in a checkpoint's folder but beside it; it is found there
        too. A folder is refused if its other files add tokens that its tokenizer.model lacks; if
        `url` is a file, only that is read. Raises WeightsError; StoreError as `read_file`.
        """
        found = cls.find(url, storage_options)
        if found is None:
            raise WeightsError(
                f"{url}: no {_FILE} there; only prompts of token ids do without it, scored or "
                f"with output.token_ids: true. Copy the checkpoint's sentencepiece model there, or "
                f"give its address as model.tokenizer (a tokenizer.json alone does not do)"
            )
        return found

    @classmethod
    def find(cls, url: str, storage_options: StorageOptions | None = None) -> Self | None:
        """As `load`, but None if there is no such file."""
        model = read_file(url, storage_options)
        if model is not None:
            return cls(model, url)
        folder, model = url, read_in(url, _FILE, storage_options)
        if model is None and read_in(url, _OFFICIAL_MARK, storage_options) is not None:
            folder = url.rstrip("/").rpartition("/")[0] or "."
            model = read_in(folder, _FILE, storage_options)
        if model is None:
            return None
        found = cls(model, url)
        found._missing = missing_tokens(folder, found._model, storage_options)
        return found

    def require_within(self, vocab_size: int) -> None:
        """Raises WeightsError if it has ids that a model of `vocab_size` tokens lacks."""
        if self.vocab_size > vocab_size:
            raise WeightsError(
                f"{self._name}: the tokenizer has {self.vocab_size:,} tokens, the model only "
                f"{vocab_size:,}; name the tokenizer that belongs to the model as model.tokenizer"
            )

    def encode(self, text: str, *, bos: bool = True) -> list[int]:
        """The token ids of `text`, BOS first unless `bos` is false; EOS is never added.

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
            ids = self._encode(text)
        except UnicodeEncodeError as error:
            raise RowError(
                f"the text is not valid Unicode: half a surrogate pair at character "
                f"{error.start}; remove or mend it"
            ) from error
        return [self.bos_id, *ids] if bos else ids

    def _encode(self, text: str) -> list[int]:
        if len(text) <= LONG or not self._can_be_cut:
            whole: list[int] = self._model.encode(text.encode())
            return whole
        return [index for part in chunks(text) for index in self._model.encode(part.encode())]

    @cached_property
    def _can_be_cut(self) -> bool:
        return can_be_cut(self._model)

    def decode(self, ids: TokenIds) -> str:
        """The text of `ids` alone; control tokens (BOS, EOS, padding) have no text.

        A model's vocabulary may be larger than its tokenizer's: ids beyond that decode as the
        unknown piece (" ⁇ "). Raises ValueError on a negative id.
        """
        known = [index if index < self.vocab_size else self.unk_id for index in as_list(ids)]
        return str(self._model.decode(known))

    def piece(self, index: int) -> str:
        """The piece of id `index`, as the model file spells it."""
        return str(self._model.id_to_piece(index))

    def token_text(self, index: int, first: bool = False) -> str:
        """The text of one token, `first` at the start of a text, as OpenAI's answers spell it.

        Part of a character is `bytes:\\xe2\\x80`; a control token is its piece (`<eos>`); an id
        beyond the vocabulary is `token_id:300000`.
        """
        if index >= self.vocab_size:
            return f"token_id:{index}"
        if self._model.is_control(index):
            return self.piece(index)
        if self._model.is_byte(index):
            byte = int(self.piece(index)[3:5], 16)
            return chr(byte) if byte < 0x80 else f"bytes:\\x{byte:02x}"
        return self.surfaces.head[index] if first else self.surfaces.body[index]

    def piece_to_id(self, piece: str) -> int | None:
        """The id of exactly this piece, None when the vocabulary lacks it."""
        index = int(self._model.piece_to_id(piece))
        return None if index == self.unk_id and piece != self.piece(index) else index

    @cached_property
    def surfaces(self) -> Surfaces:
        """The surface of each id; built on first use, shared by all detokenizers."""
        return Surfaces.of(self._model, self._name)


def as_list(ids: TokenIds) -> list[int]:
    """`ids` as plain ints. Raises ValueError on a negative one."""
    plain: list[int] = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
    if plain and min(plain) < 0:
        raise ValueError(f"token id {min(plain)} is negative")
    return plain


def _parse(model: bytes, name: str) -> spm.SentencePieceProcessor:
    require_content(model, name)
    if model[:64].lstrip().startswith((b"{", b"[")):
        raise WeightsError(
            f"{name}: is JSON, not a sentencepiece model; a tokenizer.json is not supported yet. "
            f"Name the checkpoint's {_FILE} as model.tokenizer"
        )
    processor = spm.SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(model)
    except RuntimeError as error:
        raise WeightsError(
            f"{name}: not a sentencepiece model, or cut short ({len(model):,} bytes); "
            f"copy the checkpoint's tokenizer.model again"
        ) from error
    return processor


LONG = 16_384  # characters; texts up to here are left whole
_CHUNK = 4_096

_SPACE = "\u2581"  # how sentencepiece writes one
_BPE = 2  # TrainerSpec.ModelType


def can_be_cut(model: SentencePieceProcessor) -> bool:
    """Whether any text may be cut before a space that follows another character.

    sentencepiece encodes a text as a whole; for 30 MB that is four times slower than in pieces.
    With byte-pair encoding the tokens are the same if no token has a space after another character:
    then no merge crosses the cut. The model must not normalize texts or put anything before them.
    """
    proto = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    proto.ParseFromString(model.serialized_model_proto())
    normalizer = proto.normalizer_spec
    if proto.trainer_spec.model_type != _BPE or normalizer.precompiled_charsmap:
        return False
    if normalizer.add_dummy_prefix or normalizer.remove_extra_whitespaces:
        return False
    if proto.trainer_spec.treat_whitespace_as_suffix or not normalizer.escape_whitespaces:
        return False
    return not any(_has_inner_space(piece.piece.replace(" ", _SPACE)) for piece in proto.pieces)


def _has_inner_space(piece: str) -> bool:
    return _SPACE in piece.lstrip(_SPACE)


def chunks(text: str) -> Iterator[str]:
    """The text in pieces of about 4,000 characters; longer where it can't be cut."""
    start = 0
    while len(text) - start > _CHUNK:
        cut = start + _CHUNK
        while (cut := text.find(" ", cut)) > 0 and text[cut - 1] in (" ", _SPACE):
            cut += 1
        if cut < 0:
            break
        yield text[start:cut]
        start = cut
    yield text[start:]
