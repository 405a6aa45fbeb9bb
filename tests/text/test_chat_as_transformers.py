"""Templates of the usual constructions give what transformers renders.

chat_cases.json has the texts that transformers 5.24 made of these templates and chats
(`apply_chat_template(tokenize=False, add_generation_prompt=True)`), with its special tokens. The
templates were written for this test, after the constructions of Gemma's, ChatML's, Llama 3's,
Mistral's, Phi's and Zephyr's.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from rgpipeline.errors import RowError
from rgpipeline.text.jinja import JinjaTemplate

FOUND = json.loads((Path(__file__).parent / "chat_cases.json").read_text())
NOW = datetime(2026, 7, 4, 15, 30)


def made(source: str) -> JinjaTemplate:
    return JinjaTemplate(source, "folder", FOUND["special"], NOW)


def name(case: dict[str, Any]) -> str:
    return f"{case['template']}, {case['chat']}"


@pytest.mark.parametrize("case", [c for c in FOUND["cases"] if "text" in c], ids=name)
def test_the_prompt_is_that_of_transformers(case: dict[str, Any]) -> None:
    template = made(FOUND["templates"][case["template"]])
    assert template.render(FOUND["chats"][case["chat"]]) == case["text"]


@pytest.mark.parametrize("case", [c for c in FOUND["cases"] if "refused" in c], ids=name)
def test_what_a_template_refuses_there_it_refuses_here(case: dict[str, Any]) -> None:
    template = made(FOUND["templates"][case["template"]])
    with pytest.raises(RowError) as raised:
        template.render(FOUND["chats"][case["chat"]])
    assert case["refused"] in str(raised.value)


def test_strftime_now_tells_the_moment_it_was_given() -> None:
    template = made("{{ strftime_now('%d %b %Y, %H:%M') }} {{ messages[0].content }}")
    assert template.render([{"role": "user", "content": "Hi"}]) == "04 Jul 2026, 15:30 Hi"
