"""A checkpoint's own chat template is found, sandboxed, and run as transformers runs it."""

import json
from pathlib import Path

import pytest

from rgpipeline.errors import RowError, WeightsError
from rgpipeline.text.chat import ChatTemplate
from rgpipeline.text.tokenizer import Tokenizer

USER = {"role": "user", "content": " Hello "}
SYSTEM = {"role": "system", "content": "Be brief."}

# Gemma's, as the tokenizer_config.json of its Hugging Face repositories has it.
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}"
    "{% endif %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}"
    "{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)
ECHO = "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}"


@pytest.fixture
def load(tmp_path: Path, tokenizer: Tokenizer):
    """`load(source)`: the chat of a folder whose tokenizer_config.json holds this template."""

    def make(source: object) -> ChatTemplate:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": source}))
        return ChatTemplate.load(str(tmp_path), tokenizer)

    return make


def test_gemmas_own_template_gives_gemmas_turns(load, tokenizer: Tokenizer) -> None:
    turns = "<start_of_turn>user\nHello<end_of_turn>\n<start_of_turn>model\n"
    assert load(GEMMA).render([USER]) == "<bos>" + turns
    assert load(GEMMA).encode([USER]) == tokenizer.encode(turns)


def test_a_template_that_refuses_system_messages_gets_them_folded_in(load) -> None:
    assert "<start_of_turn>user\nBe brief.\n\n Hello" in load(GEMMA).render([SYSTEM, USER])


def test_a_template_that_knows_system_messages_gets_them(load) -> None:
    assert load(ECHO).render([SYSTEM, USER]) == "system:Be brief.;user: Hello ;"


def test_the_models_turns_are_the_assistants(load) -> None:
    messages = [USER, {"role": "model", "content": "Hi"}, USER]
    assert "assistant:Hi;" in load(ECHO).render(messages)


def test_end_tokens_that_a_template_writes_are_end_tokens(load, tokenizer: Tokenizer) -> None:
    ids = load("{{ messages[0].content }}{{ eos_token }}").encode([USER])
    assert ids == [*tokenizer.encode(" Hello "), tokenizer.eos_id]


def test_blocks_are_trimmed_and_loops_can_break(load) -> None:
    source = (
        "{% for m in messages %}\n  {% if loop.index > 1 %}{% break %}{% endif %}\nx\n{% endfor %}"
    )
    assert load(source).render([USER, {"role": "model", "content": ""}, USER]) == "x\n"


def test_tojson_keeps_unicode(load) -> None:
    assert load("{{ messages[0].content | tojson }}").render([{**USER, "content": "é<"}]) == '"é<"'


def test_the_default_of_several_templates_is_used(load) -> None:
    several = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]
    assert load(several).render([USER]) == "D"


def test_a_template_file_wins_over_the_configuration(load, tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("from the file")
    assert load("from the configuration").render([USER]) == "from the file"


def test_without_a_template_there_are_gemmas_turns(load) -> None:
    assert load(None).render([USER]).startswith("<start_of_turn>user\n Hello <end_of_turn>")


def test_a_faulty_template_names_folder_and_line(load, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=rf"{tmp_path}: .* line 2"):
        load("\n{% if %}")


def test_a_template_that_never_works_is_a_fault_of_the_weights(load) -> None:
    with pytest.raises(WeightsError, match=r"plain chat.*'strftime_now' is undefined"):
        load("{{ strftime_now('%Y') }}")


def test_a_configuration_that_is_not_json_is_named(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"tokenizer_config\.json"):
        ChatTemplate.load(str(tmp_path), tokenizer)


def test_what_a_template_raises_is_a_row_error(load) -> None:
    chat = load("{% if 'bad' in messages[0].content %}{{ raise_exception('too bad') }}{% endif %}")
    with pytest.raises(RowError, match="too bad"):
        chat.render([{**USER, "content": "bad"}])


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ range(10**9) | list }}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(load, attack: str) -> None:
    with pytest.raises(WeightsError, match="plain chat"):
        load(attack)
