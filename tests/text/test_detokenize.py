"""Pieces joined are the whole text, for any ids in any splitting; sentencepiece is the oracle."""

import io
import json
from collections.abc import Callable
from itertools import chain, product
from pathlib import Path

import pytest
import sentencepiece as spm
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece.sentencepiece_model_pb2 import ModelProto

from rgpipeline.errors import WeightsError
from rgpipeline.text.completion import IncrementalDetokenizer
from rgpipeline.text.sentencepiece_model import SentencePieceModel
from rgpipeline.text.tokenizer import Tokenizer
from tests.text.streams import bytes_kept, streamed

GOLDEN = Path(__file__).parent.parent / "golden" / "tokenizer"
TEXTS = [case["text"] for case in json.loads((GOLDEN / "cases.json").read_text())]
FAMILIES: list[dict[str, bool]] = [
    {"add_dummy_prefix": prefix, "remove_extra_whitespaces": strip}
    for prefix, strip in product((False, True), repeat=2)
]
SPACE, BYTES, CONTROLS = 970, range(6, 262), (0, 1, 2)

# Random ids that meet often where it matters: bytes that nearly make characters, controls
# between them, spaces at the start, unknown ids and ids beyond the vocabulary.
any_ids = st.lists(
    st.one_of(
        st.integers(0, 1030),
        st.sampled_from(BYTES),
        st.sampled_from([*CONTROLS, 3, SPACE, 264, 5000]),
        st.sampled_from([6 + byte for byte in "é語🎉".encode()]),
    ),
    max_size=24,
)
split_ids = st.lists(any_ids, max_size=6)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_random_ids_join_to_the_decoded_whole(
    variant: Callable[..., Tokenizer], family: dict[str, bool]
) -> None:
    tokenizer = variant(**family)

    @settings(max_examples=400, deadline=None)
    @given(split_ids)
    def check(pushes: list[list[int]]) -> None:
        assert streamed(tokenizer, pushes) == tokenizer.decode(list(chain.from_iterable(pushes)))

    check()


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text[:20]))
def test_real_text_comes_back_token_by_token(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert streamed(tokenizer, [[index] for index in ids]) == text


@settings(max_examples=300, deadline=None)
@given(text=st.text())
def test_any_text_comes_back_token_by_token(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert streamed(tokenizer, [[index] for index in ids]) == tokenizer.decode(ids)


def test_text_is_given_out_as_soon_as_it_is_certain(tokenizer: Tokenizer) -> None:
    detokenizer = IncrementalDetokenizer(tokenizer)
    pieces = [detokenizer.push([index]) for index in tokenizer.encode(" the café", bos=False)]
    assert pieces == [" the", " ca", "f", "", "é"]


def test_a_continuation_keeps_its_leading_space(tokenizer: Tokenizer) -> None:
    assert IncrementalDetokenizer(tokenizer).push([264]) == " the" == tokenizer.decode([264])


def test_a_control_token_breaks_a_character_apart(tokenizer: Tokenizer) -> None:
    first, second = (6 + byte for byte in "é".encode())
    assert streamed(tokenizer, [[first, 0, second]]) == "\ufffd\ufffd"


def test_an_unfinished_character_is_a_replacement_for_each_byte(tokenizer: Tokenizer) -> None:
    ids = [6 + byte for byte in "語".encode()[:2]]
    assert streamed(tokenizer, [ids]) == "\ufffd\ufffd" == tokenizer.decode(ids)


def test_memory_is_constant(tokenizer: Tokenizer) -> None:
    assert bytes_kept(tokenizer) < 4096


def test_denormalizing_models_are_refused() -> None:
    model = ModelProto.FromString((GOLDEN / "tokenizer.model").read_bytes())
    lowercasing = ModelProto.FromString(model.SerializeToString())
    lowercasing.denormalizer_spec.precompiled_charsmap = _charsmap()
    with pytest.raises(WeightsError, match="denormalization"):
        _ = SentencePieceModel(lowercasing.SerializeToString()).surfaces


def _charsmap() -> bytes:
    """The compiled rules of sentencepiece's own nmt_nfkc_cf (case folding)."""
    trained = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(["some text"]),
        model_writer=trained,
        vocab_size=20,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc_cf",
        minloglevel=2,
    )
    return ModelProto.FromString(trained.getvalue()).normalizer_spec.precompiled_charsmap
