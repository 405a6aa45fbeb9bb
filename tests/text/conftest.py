"""The golden tokenizer, and variants of it that treat spaces as other model families do."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from sentencepiece.sentencepiece_model_pb2 import ModelProto

from rgpipeline.text.sentencepiece_model import SentencePieceModel
from rgpipeline.text.tokenizer import Tokenizer

GOLDEN = Path(__file__).parent.parent / "golden" / "tokenizer"


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(str(GOLDEN))


@pytest.fixture(scope="session")
def variant() -> Callable[..., Tokenizer]:
    """The golden tokenizer with changes: `variant(add_dummy_prefix=True)`, or pieces renamed."""

    def make(rename: Mapping[str, str] | None = None, **normalizer: bool) -> Tokenizer:
        model = ModelProto.FromString((GOLDEN / "tokenizer.model").read_bytes())
        for name, value in normalizer.items():
            setattr(model.normalizer_spec, name, value)
        for piece in model.pieces:
            piece.piece = (rename or {}).get(piece.piece, piece.piece)
        return Tokenizer(SentencePieceModel(model.SerializeToString()))

    return make
