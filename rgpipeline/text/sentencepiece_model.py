"""A tokenizer.model, read by sentencepiece."""

from functools import cached_property
from typing import Any

import sentencepiece as spm
from sentencepiece import sentencepiece_model_pb2

from rgpipeline.errors import WeightsError
from rgpipeline.storage.small_files import require_content
from rgpipeline.text.long_text import LONG, chunks, have_inner_space
from rgpipeline.text.surfaces import CONTROL, Surfaces, surface_of_bytes

_BPE = 2  # TrainerSpec.ModelType


class SentencePieceModel:
    """The `TokenModel` of a serialized sentencepiece model.

    Symbols that the file declares as user-defined (`<start_of_turn>` in Gemma's) become their own
    token wherever they occur in a text, also in the user's, as in the official sampler and in
    Gemma's tokenizer. Control symbols (`<bos>`, `<eos>`) never do: in a text they are ordinary
    characters.
    """

    def __init__(self, model: bytes, name: str = "tokenizer.model") -> None:
        """Raises WeightsError, naming the file `name`, when the bytes are no such model."""
        self.name = name
        self.processor = _parse(model, name)
        self.vocab_size: int = self.processor.vocab_size()
        self.required_size = self.vocab_size
        self.bos_id = _present(self.processor.bos_id())
        self.eos_id = _present(self.processor.eos_id())
        self._unknown: int = self.processor.unk_id()
        self.unk_id: int | None = self._unknown
        self.pad_id = _present(self.processor.pad_id())

    def encode(self, text: str) -> list[int]:
        if len(text) <= LONG or not self._can_be_cut:
            return self._encode(text)
        return [index for part in chunks(text) for index in self._encode(part)]

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.processor.encode(text.encode())
        return ids

    @cached_property
    def _can_be_cut(self) -> bool:
        return can_be_cut(self.processor)

    def decode(self, ids: list[int]) -> str:
        known = [index if index < self.vocab_size else self._unknown for index in ids]
        return str(self.processor.decode(known))

    def piece(self, index: int) -> str:
        return str(self.processor.id_to_piece(index))

    def piece_to_id(self, piece: str) -> int | None:
        index = int(self.processor.piece_to_id(piece))
        return None if index == self._unknown and piece != self.piece(index) else index

    def is_control(self, index: int) -> bool:
        return bool(self.processor.is_control(index))

    def byte(self, index: int) -> int | None:
        return int(self.piece(index)[3:5], 16) if self.processor.is_byte(index) else None

    @cached_property
    def special(self) -> frozenset[str]:
        return frozenset(
            self.piece(index)
            for index in range(self.vocab_size)
            if self.is_control(index) or index == self._unknown
        )

    @cached_property
    def added(self) -> frozenset[str]:
        proto = _proto(self.processor)
        return frozenset(piece.piece for piece in proto.pieces if piece.type == piece.USER_DEFINED)

    @cached_property
    def surfaces(self) -> Surfaces:
        marks = {i: mark for i in range(self.vocab_size) if (mark := self._mark(i)) is not None}
        decode = self.processor.decode
        surfaces = Surfaces.probed(decode, self.vocab_size, marks, self._unknown)
        ids = [self._unknown, *range(self.vocab_size)]
        if surfaces.decode(ids) != decode(ids):
            raise WeightsError(
                f"{self.name}: its text is not the sum of its pieces (denormalization rules?); "
                f"such tokenizers are not supported"
            )
        return surfaces

    def _mark(self, index: int) -> str | None:
        if self.is_control(index):
            return CONTROL
        byte = self.byte(index)
        return None if byte is None else surface_of_bytes(bytes([byte]))


def _present(index: int) -> int | None:
    return None if index < 0 else index


def _parse(model: bytes, name: str) -> spm.SentencePieceProcessor:
    require_content(model, name)
    processor = spm.SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(model)
    except RuntimeError as error:
        raise WeightsError(
            f"{name}: not a sentencepiece model, or cut short ({len(model):,} bytes); "
            f"copy the checkpoint's tokenizer.model again"
        ) from error
    return processor


def _proto(model: spm.SentencePieceProcessor) -> Any:
    proto = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    proto.ParseFromString(model.serialized_model_proto())
    return proto


def can_be_cut(model: spm.SentencePieceProcessor) -> bool:
    """Whether any text may be cut before a space that follows another character.

    The model must not normalize texts or put anything before them; see `long_text`.
    """
    proto = _proto(model)
    normalizer = proto.normalizer_spec
    if proto.trainer_spec.model_type != _BPE or normalizer.precompiled_charsmap:
        return False
    if normalizer.add_dummy_prefix or normalizer.remove_extra_whitespaces:
        return False
    if proto.trainer_spec.treat_whitespace_as_suffix or not normalizer.escape_whitespaces:
        return False
    return not have_inner_space(piece.piece for piece in proto.pieces)
