"""Rows to prompts, and what a row may ask for itself."""

import json
from datetime import datetime
from pathlib import Path

import pytest

from rgpipeline.errors import RowError
from rgpipeline.spec import Columns, Sampling
from rgpipeline.tasks.row_prompts import Prompts
from rgpipeline.tasks.row_sampling import row_sampling
from rgpipeline.text.chat import ChatTemplate
from rgpipeline.text.jinja import JinjaTemplate
from rgpipeline.text.prompt_template import PromptTemplate
from rgpipeline.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.load(str(Path(__file__).parent.parent / "golden" / "tokenizer"))
BASE = Sampling(max_tokens=7, temperature=0.5)


def prompts(template: str | None = None, chat=None, **columns: str) -> Prompts:
    made = PromptTemplate(template) if template else None
    return Prompts(Columns(**columns), BASE, TOKENIZER, chat or "no chat here", made)


def test_a_text_gets_the_beginning_of_text():
    assert prompts(prompt="p").make({"p": "In the"}).tokens == TOKENIZER.encode("In the")


def test_token_ids_are_taken_as_they_are():
    assert prompts(prompt_ids="i").make({"i": [5, 6]}).tokens == [5, 6]


def test_a_template_is_filled_from_columns():
    made = prompts("Say {word}!").make({"word": "yes"})
    assert made.tokens == TOKENIZER.encode("Say yes!")


def test_a_chat_ends_where_the_model_ends_its_turn():
    chat = ChatTemplate(TOKENIZER)
    messages = [{"role": "user", "content": "Hi"}]
    made = prompts(messages="m", chat=chat).make({"m": messages})
    assert made.tokens == chat.encode(messages)
    assert made.sampling.stop_ids == chat.stop_ids


def test_a_rows_tools_are_given_to_its_template():
    source = "{{ tools[0].name if tools else 'none' }}"
    chat = ChatTemplate(TOKENIZER, JinjaTemplate(source, "folder", {}, datetime(2026, 1, 1)))
    made = prompts(messages="m", tools="t", chat=chat)
    messages = [{"role": "user", "content": "Hi"}]
    for tools, text in ([{"name": "f"}], "f"), ('[{"name": "f"}]', "f"), (None, "none"):
        row = {"m": messages, "t": tools}
        assert made.make(row).tokens == TOKENIZER.encode(text)


def test_a_chat_that_ignores_ends_goes_on_after_its_turn():
    made = prompts(messages="m", chat=ChatTemplate(TOKENIZER), sampling="s").make(
        {"m": [{"role": "user", "content": "Hi"}], "s": '{"ignore_eos": true}'}
    )
    assert made.sampling.stop_ids == ()


def test_a_stop_string_that_names_eos_ends_at_that_token():
    made = prompts(prompt="p", sampling="s").make(
        {"p": "In", "s": '{"stop": ["<eos>"], "ignore_eos": true}'}
    )
    assert made.sampling.stop_ids == (TOKENIZER.eos_id,)


def test_a_batch_row_is_whichever_kind_it_fills():
    both = prompts(prompt="p", prompt_ids="i")
    assert both.make({"p": None, "i": [4]}).tokens == [4]
    with pytest.raises(RowError, match="'p' and 'i' is null"):
        both.make({"p": None, "i": None})


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        ([], "empty list"),
        ("5 6", "'i' holds text; a list of token ids is needed"),
        ([1, -1], r"\[1\]: -1 is not a token id"),
        ([True], "True is not a token id"),
        ([1.0], "1.0 is not a token id"),
        ([2**31], "is not a token id"),
    ],
)
def test_token_ids_that_are_none_are_told(ids, told):
    with pytest.raises(RowError, match=told):
        prompts(prompt_ids="i").make({"i": ids})


@pytest.mark.parametrize("value", [5, 0.5, True, ["a"], {"a": 1}, b"a"])
def test_what_is_no_text_is_told_with_its_column_and_what_is_needed(value):
    made = prompts(prompt="p")
    with pytest.raises(RowError, match=r"'p' holds an? \w+; text is needed"):
        made.make({"p": value})


@pytest.mark.parametrize("value", [5, 0.5, {"role": "user", "content": "Hi"}])
def test_what_is_no_chat_is_told_with_its_column_and_what_is_needed(value):
    made = prompts(messages="m", chat=ChatTemplate(TOKENIZER))
    with pytest.raises(RowError, match=r"'m' holds an? \w+; a list of messages"):
        made.make({"m": value})


def test_a_chat_is_the_same_as_text_or_as_parts():
    made = prompts(messages="m", chat=ChatTemplate(TOKENIZER))
    text = [{"role": "user", "content": "Hi"}]
    parts = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    tokens = [made.make({"m": chat}).tokens for chat in (text, parts, json.dumps(parts))]
    assert tokens[0] == tokens[1] == tokens[2]


@pytest.mark.parametrize(
    ("value", "name"), [("a", "a"), (7, "7"), ("", ""), (0, "0")], ids=["text", "int", "empty", "0"]
)
def test_a_row_is_called_by_its_column(value, name):
    assert prompts(prompt="p", id="key").row_id({"key": value}) == name


def test_a_row_without_the_name_it_should_have_is_refused():
    assert prompts(prompt="p").row_id({}) is None
    with pytest.raises(RowError, match="'key', which names the rows, is null"):
        prompts(prompt="p", id="key").row_id({"key": None})


@pytest.mark.parametrize(
    ("overrides", "changed"),
    [
        (None, {}),
        ("", {}),
        ("{}", {}),
        ({"top_k": 5, "seed": None}, {"top_k": 5}),
        ([("top_k", 5), ("seed", None)], {"top_k": 5}),
        ('{"max_tokens": null}', {"max_tokens": None}),
        ({"max_tokens": None, "stop": None}, {}),
        ('{"stop": null, "top_k": 5}', {"top_k": 5}),
        ({"logit_bias": {"5": 1.0, "7": None}}, {"logit_bias": {5: 1.0}}),
        ('{"logit_bias": {"3": -1.5}}', {"logit_bias": {3: -1.5}}),
    ],
    ids=[
        "null",
        "empty",
        "none",
        "struct",
        "map",
        "json null",
        "null keys",
        "json null keys",
        "bias of other rows",
        "json",
    ],
)
def test_overrides_change_what_they_name(overrides, changed):
    assert row_sampling(BASE, overrides) == BASE.model_copy(update=changed)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ('{"temprature": 1}', "s.temprature: unknown key; did you mean 'temperature'?"),
        ({"top_p": 2.0, "n": 0}, "s.top_p: should be .*; s.n: should be"),
        ("{nonsense", "'s' holds text that is not JSON"),
        ("[1]", "'s' holds JSON that is not an object"),
        (json.dumps({"min_tokens": 9}), "min_tokens 9 is above max_tokens 7"),
        (5, "'s' holds an int; an object of sampling keys"),
        ([], "'s' holds a list; an object of sampling keys"),
    ],
)
def test_overrides_that_are_not_valid_are_told(overrides, told):
    with pytest.raises(RowError, match=told):
        row_sampling(BASE, overrides, "s")


def test_more_log_probabilities_than_the_column_holds_are_refused():
    with pytest.raises(RowError, match=r"set sampling\.logprobs of the job to 2 or more"):
        row_sampling(Sampling(logprobs=1), {"logprobs": 3})
