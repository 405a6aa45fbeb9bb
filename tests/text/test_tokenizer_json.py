"""A tokenizer.json gives the ids of the `tokenizers` library, and its texts stream as the whole."""

import json
from datetime import datetime
from itertools import chain
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from rgpipeline.errors import RowError, WeightsError
from rgpipeline.text.chat import ChatTemplate
from rgpipeline.text.completion import CompletionText
from rgpipeline.text.jinja import JinjaTemplate
from rgpipeline.text.stops import token_without_text
from tests.text.json_tokenizers import (
    ROLES,
    SPECIAL,
    TEXTS,
    TURNS,
    bpe,
    library_ids,
    opened,
    trained,
)
from tests.text.streams import bytes_kept, streamed

LIBRARY = trained()
OURS = opened(LIBRARY)
BYTES = range(6, 262)  # <0x00> to <0xFF>

# Of characters that are pieces, bytes or several bytes, and what spells tokens.
texts = st.lists(
    st.one_of(st.text(max_size=8), st.sampled_from([*TEXTS, *SPECIAL, *TURNS, " ", "  ", "▁"]))
).map("".join)
# Bytes that nearly make characters meet often, with specials and unknown ids between them.
any_ids = st.lists(
    st.one_of(
        st.integers(0, OURS.vocab_size + 5),
        st.sampled_from(BYTES),
        st.sampled_from([*range(6), 5000]),
        st.sampled_from([6 + byte for byte in "é語🎉".encode()]),
    ),
    max_size=24,
)


@settings(max_examples=400, deadline=None)
@given(texts)
def test_any_text_has_the_librarys_ids_and_streams_as_the_library_decodes(text: str) -> None:
    ids = OURS.encode(text, bos=False)
    assert ids == library_ids(LIBRARY, text)
    assert OURS.decode(ids) == LIBRARY.decode(ids, skip_special_tokens=True)
    assert streamed(OURS, [[index] for index in ids]) == OURS.decode(ids)


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁<")))
def test_any_text_comes_back(text: str) -> None:
    assert OURS.decode(OURS.encode(text)) == text


@settings(max_examples=400, deadline=None)
@given(st.lists(any_ids, max_size=6))
def test_random_ids_join_to_the_decoded_whole(pushes: list[list[int]]) -> None:
    assert streamed(OURS, pushes) == OURS.decode(list(chain.from_iterable(pushes)))


@settings(max_examples=300, deadline=None)
@given(any_ids)
def test_random_ids_without_stray_bytes_read_as_in_the_library(ids: list[int]) -> None:
    kept = [index for index in ids if index not in BYTES or index < 6 + 0x80]
    assert OURS.decode(kept) == LIBRARY.decode(kept, skip_special_tokens=True)


def test_a_stray_byte_leaves_the_characters_beside_it() -> None:
    run = [6 + byte for byte in "日".encode()]
    assert streamed(OURS, [run, [6 + 0xE6]]) == "日\ufffd"
    assert LIBRARY.decode([*run, 6 + 0xE6]) == "\ufffd" * 4  # what is not done here


def test_there_is_one_bos_whoever_puts_it() -> None:
    ids = library_ids(LIBRARY, "Hello")
    assert LIBRARY.encode("Hello").ids == [2, *ids]
    assert OURS.encode("Hello") == [2, *ids] == OURS.encode("<bos>Hello")
    assert OURS.encode("Hello", bos=False) == ids
    assert OURS.encode("") == [2]


def test_settings_left_from_training_change_no_ids() -> None:
    made = trained()
    made.enable_truncation(4)
    made.enable_padding(length=300)
    spec = json.loads(made.to_str())
    spec["model"]["dropout"] = 0.9
    assert opened(spec).encode(TEXTS[0] * 9) == OURS.encode(TEXTS[0] * 9)


def test_special_tokens_are_read_in_texts_have_no_text_and_can_be_named_as_stops() -> None:
    assert OURS.encode("a<end_of_turn>b", bos=False)[-2] == 5
    assert OURS.decode([5]) == ""
    assert token_without_text("<end_of_turn>", OURS) == 5
    assert [OURS.token_text(i) for i in (1, 5, 6 + 0xE6, 6 + 0x41, 9000)] == [
        "<eos>", "<end_of_turn>", "bytes:\\xe6", "A", "token_id:9000",
    ]  # fmt: skip
    assert (OURS.bos_id, OURS.eos_id, OURS.unk_id, OURS.pad_id) == (2, 1, 3, 0)
    assert OURS.piece_to_id("<0x41>") == 6 + 0x41
    assert OURS.piece_to_id("<no such piece>") is None


def test_tokens_that_are_added_but_not_special_have_text() -> None:
    made = trained()
    made.add_tokens([tokenizers.AddedToken("<|tool|>", normalized=False)])
    ids = opened(made).encode("a<|tool|>b", bos=False)
    assert made.token_to_id("<|tool|>") in ids
    assert streamed(opened(made), [[index] for index in ids]) == "a<|tool|>b"


def test_a_stop_string_is_found_in_streamed_text() -> None:
    text = CompletionText(OURS, ["God created"])
    pushed = [text.push([index]) for index in OURS.encode(TEXTS[0], bos=False)]
    assert "".join(one.emit for one in pushed) == "In the beginning "
    assert any(one.hit == "God created" for one in pushed)


@pytest.mark.parametrize("declared", [True, False])
def test_a_chats_turns_are_tokens_even_where_the_file_does_not_declare_them(declared: bool) -> None:
    spec = json.loads(LIBRARY.to_str())
    if not declared:
        spec["added_tokens"] = [t for t in spec["added_tokens"] if t["content"] not in TURNS]
    tokenizer = opened(spec)
    assert (4 in tokenizer.encode("<start_of_turn>", bos=False)) is declared
    chat = ChatTemplate(tokenizer)
    user = OURS.encode("user\nHello", bos=False)
    model = OURS.encode("\n<start_of_turn>model\n", bos=False)
    assert chat.encode([{"role": "user", "content": "Hello"}]) == [2, 4, *user, 5, *model]
    assert chat.stop_ids == (5,)


def test_a_templates_text_has_the_librarys_ids_with_one_bos() -> None:
    source = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}"
    special = {"bos_token": "<bos>", "eos_token": "<eos>"}
    template = JinjaTemplate(source + "{% endfor %}", "folder", special, datetime(2026, 1, 1))
    chat = ChatTemplate(OURS, template)
    messages = [{"role": "user", "content": "café <end_of_turn> 日本"}]
    text = "<bos>[user] café <end_of_turn> 日本<eos>"
    assert chat.render(messages) == text
    assert chat.encode(messages) == library_ids(LIBRARY, text)


@pytest.mark.parametrize("value", [None, 3, b"bytes"])
def test_what_is_not_text_is_a_row_error(value: Any) -> None:
    with pytest.raises(RowError, match=type(value).__name__):
        OURS.encode(value)


def test_half_a_surrogate_pair_is_a_row_error_with_its_place() -> None:
    with pytest.raises(RowError, match="character 2"):
        OURS.encode("ab\ud800")


def test_memory_is_constant() -> None:
    assert bytes_kept(OURS) < 4096


def test_a_file_without_bos_is_refused() -> None:
    made = tokenizers.Tokenizer(bpe({"a": 0, "b": 1}, []))
    with pytest.raises(WeightsError, match=r"tokenizer\.json: has no BOS piece"):
        opened(made)


def test_roles_are_found_without_a_config() -> None:
    made = opened(LIBRARY, none="")
    assert (made.bos_id, made.eos_id) == (2, 1)
    assert ROLES["bos_token"] == "<bos>"
