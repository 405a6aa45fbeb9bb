"""Long texts give the tokens that sentencepiece gives of them as a whole."""

import io

import pytest
import sentencepiece as spm
from hypothesis import given, settings
from hypothesis import strategies as st

from rgpipeline.text import long_text
from rgpipeline.text.long_text import chunks
from rgpipeline.text.sentencepiece_model import can_be_cut
from rgpipeline.text.tokenizer import Tokenizer

DEMO = Tokenizer.load("demo")
WORDS = st.sampled_from(
    [
        "In",
        "the",
        "beginning",
        " ",
        "  ",
        "\n",
        "\u2581",
        "\u2581 ",
        "God's",
        "a",
        "é",
        "1611",
        ",",
        "\t",
    ]
)


@given(
    st.lists(st.tuples(WORDS, st.sampled_from([" ", "", "  "])), max_size=60), st.integers(1, 20)
)
@settings(max_examples=200, deadline=None)
def test_a_text_in_pieces_has_the_tokens_of_the_whole(words, size) -> None:
    text = "".join(word + gap for word, gap in words)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_text, "_CHUNK", size)
        parts = list(chunks(text))
    assert "".join(parts) == text
    assert DEMO.encode(text, bos=False) == [i for p in parts for i in DEMO.encode(p, bos=False)]


def test_a_long_text_has_the_tokens_of_the_whole() -> None:
    text = "And the earth was without form, and void; " * 2_000
    assert DEMO.encode(text, bos=False) == DEMO._model.processor.encode(text)


def test_a_text_without_a_space_is_left_whole() -> None:
    assert list(chunks("x" * 20_000)) == ["x" * 20_000]


def trained(**options: object) -> spm.SentencePieceProcessor:
    model, words = io.BytesIO(), [f"to be or not to be number {n}" for n in range(300)]
    spm.SentencePieceTrainer.train(
        **{
            "sentence_iterator": iter(words),
            "model_writer": model,
            "vocab_size": 60,
            "model_type": "bpe",
            "normalization_rule_name": "identity",
            "add_dummy_prefix": False,
            "remove_extra_whitespaces": False,
            "hard_vocab_limit": False,
            **options,
        }
    )
    return spm.SentencePieceProcessor(model_proto=model.getvalue())


@pytest.mark.parametrize(
    ("options", "cut"),
    [
        ({}, True),
        ({"model_type": "unigram"}, False),
        ({"split_by_whitespace": False}, False),  # tokens like "to be"
        ({"user_defined_symbols": ["to be"]}, False),
        ({"treat_whitespace_as_suffix": True}, False),
        ({"add_dummy_prefix": True}, False),
        ({"remove_extra_whitespaces": True}, False),
        ({"normalization_rule_name": "nmt_nfkc"}, False),
    ],
)
def test_only_where_no_token_reaches_over_a_cut(options, cut) -> None:
    assert can_be_cut(trained(**options)) is cut
