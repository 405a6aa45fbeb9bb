"""Long texts, cut where their tokens can't tell.

sentencepiece takes a text as a whole, which for 30 MB means a heap of 30 million pairs: four times
as slow as by the thousand. Cutting changes nothing where no token can reach over the cut.
"""

from collections.abc import Iterator

from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2

LONG = 16_384  # characters; texts up to here are left whole
_CHUNK = 4_096

_SPACE = "\u2581"  # how sentencepiece writes one
_BPE = 2  # TrainerSpec.ModelType


def can_be_cut(model: SentencePieceProcessor) -> bool:
    """Whether any text may be cut before a space that follows something else.

    So it is for byte-pair encoding if no token has a space behind something else, for then no merge
    ever reaches over the cut, and what is merged on one side does not depend on the other. Nor may
    the model change texts, or put something before them.
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
    """The text in pieces of about 4,000 characters; longer ones where there is nowhere to cut."""
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
