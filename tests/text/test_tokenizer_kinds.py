"""Other tokenizer.json files: converted ones, long texts, and those of other families."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece.sentencepiece_model_pb2 import ModelProto
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from rgpipeline.errors import WeightsError
from rgpipeline.text import long_text
from rgpipeline.text.sentencepiece_model import SentencePieceModel
from rgpipeline.text.tokenizer import Tokenizer
from tests.text.json_tokenizers import (
    SPECIAL,
    TEXTS,
    TURNS,
    bpe,
    converted,
    in_gemmas_style,
    library_ids,
    opened,
    trained,
)
from tests.text.streams import streamed

GOLDEN = Path(__file__).parent.parent / "golden" / "tokenizer"
MODEL = (GOLDEN / "tokenizer.model").read_bytes()
CASES = json.loads((GOLDEN / "cases.json").read_text())
CONVERTED = opened(converted(MODEL))


@pytest.mark.parametrize("case", CASES, ids=lambda case: repr(case["text"][:20]))
def test_a_converted_tokenizer_model_has_its_ids(case: dict[str, Any]) -> None:
    ids = CONVERTED.encode(case["text"], bos=False)
    control = any(name in case["text"] for name in SPECIAL)  # read as tokens here, as text there
    assert control or ids == case["ids"]
    assert CONVERTED.decode(ids) == converted(MODEL).decode(ids)


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("In the beginning God créated 日本🎉\n\t.,'12▁")))
def test_a_converted_tokenizer_model_has_its_ids_of_any_text(text: str) -> None:
    sentencepiece = Tokenizer(SentencePieceModel(MODEL))
    ids = sentencepiece.encode(text)
    assert CONVERTED.encode(text) == ids
    assert streamed(CONVERTED, [ids]) == sentencepiece.decode(ids)


def test_a_converted_unigram_model_has_its_ids() -> None:
    proto = ModelProto.FromString(MODEL)
    proto.trainer_spec.model_type = proto.trainer_spec.UNIGRAM
    sentencepiece = Tokenizer(SentencePieceModel(proto.SerializeToString()))
    tokenizer = opened(converted(proto.SerializeToString()))
    for case in CASES:
        if not any(name in case["text"] for name in SPECIAL + TURNS):
            assert tokenizer.encode(case["text"]) == sentencepiece.encode(case["text"])


@pytest.mark.parametrize("splits", [False, True])
def test_a_long_text_in_pieces_has_the_ids_of_the_whole(
    splits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = trained()
    if splits:
        made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer = opened(made)
    assert tokenizer._model._can_be_cut
    draw = random.Random(1)
    words = [*" ".join(TEXTS).split(" "), "", "", *TURNS, "▁"]
    text = " ".join(draw.choice(words) for _ in range(8_000))
    monkeypatch.setattr(long_text, "_CHUNK", 50)
    assert len(text) > long_text.LONG
    assert tokenizer.encode(text, bos=False) == library_ids(made, text)


def test_a_text_is_left_whole_where_a_token_may_reach_over_a_cut() -> None:
    made = trained()
    made.add_tokens([tokenizers.AddedToken("to be", normalized=False)])
    stripping = trained()
    stripping.add_tokens([tokenizers.AddedToken("<|x|>", rstrip=True)])
    folding = trained()
    folding.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(" ", "▁")])
    assert not any(opened(one)._model._can_be_cut for one in (made, stripping, folding))


def byte_level() -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=SPECIAL, show_progress=False
    )
    made.train_from_iterator(TEXTS, trainer)
    return made


def dropping_a_space(decoder: decoders.Decoder) -> tokenizers.Tokenizer:
    made = in_gemmas_style(trained().model)
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    made.decoder = decoder
    return made


OTHERS = {
    "bytes, as GPT-2": byte_level,
    "a space before the text, as Llama": lambda: dropping_a_space(
        decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        )
    ),
    "metaspace": lambda: dropping_a_space(
        decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_kinds_stream_as_the_library_decodes(kind: str) -> None:
    library = OTHERS[kind]()
    tokenizer = opened(library)
    draw = random.Random(7)
    for text in [
        *TEXTS,
        "",
        " ",
        "  a",
        "é",
        *("".join(draw.choices(TEXTS[2], k=9)) for _ in "12345"),
    ]:
        ids = library_ids(library, text)
        assert tokenizer.encode(text, bos=False) == ids
        whole = library.decode(ids, skip_special_tokens=True)
        assert tokenizer.decode(ids) == whole == streamed(tokenizer, [[index] for index in ids])
    for _ in range(300):
        ids = draw.choices(range(tokenizer.vocab_size), k=12)
        assert streamed(tokenizer, [ids[:5], ids[5:]]) == tokenizer.decode(ids)


def test_a_decoder_whose_text_is_no_sum_of_pieces_is_refused() -> None:
    made = in_gemmas_style(bpe({piece: i for i, piece in enumerate([*SPECIAL, "a", "b"])}, []))
    made.decoder = decoders.Sequence([decoders.Fuse(), decoders.Replace("ab", "X")])
    with pytest.raises(WeightsError, match=r"not the sum of its pieces.*Fuse, Replace"):
        _ = opened(made).surfaces
