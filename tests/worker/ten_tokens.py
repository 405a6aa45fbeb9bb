"""What goes with the fake engine: ten pieces of text, and log-probabilities by hand."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from sentencepiece.sentencepiece_model_pb2 import ModelProto

from rgpipeline.engine.loop import Loop
from rgpipeline.engine.slot_fields import SamplingFeatures
from rgpipeline.model.weights.model_source import ModelSource
from rgpipeline.records import ResolvedSettings, TokenLogprobs
from rgpipeline.spec import EngineSpec
from tests.fake_engine import FakeBlock, FakeEngine, FakeState

# Token 0 ends a sequence, as it does for the fake engine. 7 and 8 are halves of one character.
PIECES = ["</s>", "<s>", "<unk>", "a", "b", "▁", "ab", "<0xC3>", "<0xA9>", "c"]


def write_tokenizer(folder: Path) -> str:
    """A sentencepiece model of the ten pieces; returns its file's name."""
    kind = ModelProto.SentencePiece
    kinds = {0: kind.CONTROL, 1: kind.CONTROL, 2: kind.UNKNOWN}
    model = ModelProto()
    # Sentencepiece wants all bytes or none; those beyond the model's vocabulary never come.
    others = [name for byte in range(256) if (name := f"<0x{byte:02X}>") not in PIECES]
    for index, piece in enumerate([*PIECES, *others]):
        usual = kind.BYTE if piece.startswith("<0x") else kind.NORMAL
        model.pieces.add(piece=piece, score=-index, type=kinds.get(index, usual))
    model.trainer_spec.model_type = model.trainer_spec.UNIGRAM
    model.trainer_spec.byte_fallback = True
    model.trainer_spec.vocab_size = len(model.pieces)
    model.trainer_spec.eos_id, model.trainer_spec.bos_id = 0, 1
    model.trainer_spec.unk_id, model.trainer_spec.pad_id = 2, -1
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = False
    model.normalizer_spec.remove_extra_whitespaces = False
    path = folder / "tokenizer.model"
    path.write_bytes(model.SerializeToString())
    return str(path)


class TellingEngine(FakeEngine):
    """The fake engine with log-probabilities: minus a third of the token and one."""

    def decode(
        self, state: FakeState, features: SamplingFeatures, steps: int
    ) -> tuple[FakeState, FakeBlock]:
        state, block = super().decode(state, features, steps)
        tokens = block.block.tokens
        near = (tokens[..., None] + np.arange(features.logprobs, dtype=np.int32)) % 10
        told = TokenLogprobs(_logprob(tokens), near, _logprob(near))
        return state, FakeBlock(replace(block.block, logprobs=told))


def _logprob(tokens: np.ndarray) -> np.ndarray:
    return (-(tokens + 1) / np.float32(3)).astype(np.float32)


@dataclass
class Opened:
    loop: Loop[Any, Any]
    settings: ResolvedSettings


def factory(engine_type: type[FakeEngine] = TellingEngine, **options: int):
    """An `EngineFactory` of fake engines; `options` are theirs."""

    def open_engine(
        source: ModelSource,
        engine: EngineSpec,
        resolved: ResolvedSettings | None = None,
    ) -> Opened:
        built = engine_type(**options)
        found = ResolvedSettings("float32", built.slots, built.pack_shapes[0][1], built.steps)
        return Opened(Loop(built, prefix_states=4), resolved or found)

    return open_engine


def expected(prompt: Sequence[int], limit: int, ignore_eos: bool = False) -> list[int]:
    """What the fake engine answers."""
    total = sum(prompt)
    answer: list[int] = []
    while len(answer) < limit and (total % 10 or ignore_eos):
        answer.append(total % 10)
        total += answer[-1]
    return answer
