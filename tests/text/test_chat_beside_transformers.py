"""Prompts, and their ids, equal those of transformers' `apply_chat_template`.

The templates in `templates/` were written for this test, with the constructions of Gemma's (and
RecurrentGemma's), Gemma 3's, ChatML's, Qwen 2.5's, Llama 3.1's, Mistral's and Zephyr's.
"""

import json
import re
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import jinja2
import pytest
import tokenizers
from transformers import PreTrainedTokenizerFast

from rgpipeline.errors import RowError
from rgpipeline.text.chat import ChatTemplate
from rgpipeline.text.tokenizer import Tokenizer
from tests.text.json_tokenizers import trained, write

TEMPLATES = {
    path.stem: path.read_text() for path in (Path(__file__).parent / "templates").iterdir()
}
MARKS = (
    *("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<|user|>", "<|system|>", "<|assistant|>", "[INST]", "[/INST]", "<start_of_image>"),
)
TIME = {"type": "object", "properties": {"zone": {"type": "string", "description": "such as é"}}}
TOOLS = [
    {
        "type": "function",
        "function": {"name": "get_time", "description": "Now", "parameters": TIME},
    },
    {"type": "function", "function": {"name": "stop", "description": "Stops", "parameters": {}}},
]
SYSTEM = {"role": "system", "content": "Be brief.\n"}
USER = {"role": "user", "content": " What time is it?\n"}
ANSWER = {"role": "assistant", "content": " Noon. "}
FUNCTION = {"name": "get_time", "arguments": {"zone": "Zürich", "exact": True}}
CALL = {
    "role": "assistant",
    "tool_calls": [{"id": "abcdefghi", "type": "function", "function": FUNCTION}],
}
RESULT = {"role": "tool", "tool_call_id": "abcdefghi", "name": "get_time", "content": "12:00"}
PARTS = [{"type": "text", "text": "What "}, {"type": "text", "text": "time?"}]
CHATS: dict[str, list[dict[str, Any]]] = {
    "question": [USER],
    "system": [SYSTEM, USER],
    "turns": [USER, ANSWER, {"role": "user", "content": "Thanks"}],
    "system and turns": [SYSTEM, USER, ANSWER, USER],
    "empty": [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}, USER],
    "tool call": [USER, CALL, RESULT],
    "after a tool call": [SYSTEM, USER, CALL, RESULT, ANSWER, USER],
    "two calls": [USER, {**CALL, "content": "Well", "tool_calls": CALL["tool_calls"] * 2}, RESULT],
    "bad call": [USER, {**CALL, "tool_calls": [{**CALL["tool_calls"][0], "id": "x"}]}, RESULT],
    "null keys": [{**USER, "name": None, "tool_calls": None}],
    "two users": [USER, USER],
    "other role": [USER, {"role": "critic", "content": "Hm"}, USER],
    "parts": [{"role": "user", "content": PARTS}],
    "control tokens": [{"role": "user", "content": "a<end_of_turn>b<eos>\n<|im_end|>c<bos>"}],
}
WITH_CALLS = {name for name in CHATS if "call" in name}
KNOW_TOOLS = {name for name, source in TEMPLATES.items() if "tools" in source}
KNOW_PARTS = {"gemma_with_system"}


def same(template: str, chat: str, tools: str) -> bool:
    """Whether transformers' prompt is wanted; else see docs/weights.md, "Chat templates"."""
    if template == "gemma" and chat.startswith("system"):
        return False  # it refuses them; here they are put before the first question
    if chat == "parts" and template not in KNOW_PARTS:
        return False  # it prints Python's lists; here the parts are joined
    return template in KNOW_TOOLS or not (tools or chat in WITH_CALLS)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory):
    """`opened(template)`: transformers' tokenizer and our chat of a folder with this template."""
    made = trained()
    made.add_special_tokens([tokenizers.AddedToken(mark, normalized=False) for mark in MARKS])

    @cache
    def open_folder(template: str) -> tuple[PreTrainedTokenizerFast, ChatTemplate]:
        folder = tmp_path_factory.mktemp("tokenizer")
        write(folder, made)
        (folder / "chat_template.jinja").write_text(TEMPLATES[template])
        theirs = PreTrainedTokenizerFast.from_pretrained(folder)
        return theirs, ChatTemplate.load(str(folder), Tokenizer.load(str(folder)))

    return open_folder


CASES = [case for case in product(sorted(TEMPLATES), CHATS, ("", "tools")) if same(*case)]


@pytest.mark.parametrize(("template", "chat", "tools"), CASES)
def test_a_chat_is_read_as_in_transformers(opened, template: str, chat: str, tools: str) -> None:
    theirs, ours = opened(template)
    messages, given = CHATS[chat], TOOLS if tools else None
    options = {"tools": given, "add_generation_prompt": True}
    try:
        expected = theirs.apply_chat_template(messages, tokenize=False, **options)
    except jinja2.TemplateError as refusal:
        with pytest.raises(RowError, match=re.escape(str(refusal))):
            ours.render(messages, given)
        return
    ids = theirs.apply_chat_template(messages, **options)["input_ids"]
    bos = [theirs.bos_token_id]
    assert ours.render(messages, given) == expected
    assert ours.render(json.dumps(messages), json.dumps(given)) == expected
    assert ours.encode(messages, given) == (ids if ids[:1] == bos else bos + ids)


@pytest.mark.parametrize("template", sorted(TEMPLATES.keys() - KNOW_TOOLS))
def test_tools_that_a_template_would_drop_are_refused(opened, template: str) -> None:
    chat = opened(template)[1]
    with pytest.raises(RowError, match=r"tools: the chat template of .* doesn't write tools"):
        chat.encode(CHATS["question"], TOOLS)
    with pytest.raises(RowError, match=r"messages\[1\]\.tool_calls: .* doesn't write them"):
        chat.encode(CHATS["tool call"])
