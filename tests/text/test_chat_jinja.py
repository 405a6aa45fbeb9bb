"""A checkpoint's own chat template is found, sandboxed, and run as transformers runs it."""

import json
from pathlib import Path

import pytest

from rgpipeline.errors import RowError, WeightsError
from rgpipeline.storage.small_files import read_in
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


TOOL = {"type": "function", "function": {"name": "get_time"}}


def test_chats_with_tools_get_the_template_for_them(load) -> None:
    for_tools = "{{ tools[0].function.name }} {{ tools | length }}"
    several = [{"name": "tool_use", "template": for_tools}, {"name": "default", "template": "D"}]
    chat = load(several)
    assert chat.render([USER], [TOOL]) == "get_time 1"
    assert [chat.render([USER], none) for none in ([], None, "", "[]")] == ["D"] * 4


def test_a_template_may_be_for_chats_with_tools_alone(load) -> None:
    chat = load("{% for tool in tools %}{{ tool.function.name }}{% endfor %}")
    assert chat.render([USER], [TOOL]) == "get_time"
    with pytest.raises(RowError, match="'NoneType' object is not iterable"):
        chat.render([USER])


def test_the_files_of_transformers_5_are_found_by_name(load, tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("D")
    more = tmp_path / "additional_chat_templates"
    more.mkdir()
    (more / "tool_use.jinja").write_text("{{ tools[0].function.name }}")
    (more / "rag.jinja").write_text("R")
    chat = load("from the configuration")
    assert [chat.render([USER]), chat.render([USER], [TOOL])] == ["D", "get_time"]


def test_a_job_may_name_one_of_the_folders_templates(tmp_path: Path, tokenizer: Tokenizer) -> None:
    several = {"chat_template": [{"name": name, "template": name} for name in ("rag", "short")]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(several))
    chat = ChatTemplate.load(str(tmp_path), tokenizer, template="short")
    assert chat.render([USER]) == "short"
    with pytest.raises(WeightsError, match=r"long: no chat template .* weights are rag, short"):
        ChatTemplate.load(str(tmp_path), tokenizer, template="long")


def test_a_processors_template_is_found(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": ECHO}))
    assert ChatTemplate.load(str(tmp_path), tokenizer).render([USER]) == "user: Hello ;"


@pytest.mark.parametrize(
    ("tools", "says"),
    [
        ("[{", "tools: text that is not JSON"),
        ({"name": "f"}, "tools: a list of tools is expected"),
        (["f"], r"tools\[0\]: an object"),
        ([TOOL, {"type": "function", "function": {}}], r"tools\[1\]: an object"),
    ],
)
def test_what_is_no_list_of_tools_is_named(load, tools: object, says: str) -> None:
    with pytest.raises(RowError, match=says):
        load("{{ tools }}").render([USER], tools)


def test_reasoning_is_found_by_either_name(load) -> None:
    chat = load("{% for m in messages %}{{ m.thinking }}{{ m.reasoning_content }}{% endfor %}")
    assert chat.render([{"role": "assistant", "content": "", "reasoning": "R"}, USER]) == "RR"


def test_several_templates_without_a_default_are_refused(load) -> None:
    with pytest.raises(WeightsError, match=r"several chat templates \(rag, tool\) and no default"):
        load([{"name": name, "template": "T"} for name in ("rag", "tool")])


def test_tokens_have_the_names_that_the_configuration_gives_them(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    names = {"eos_token": {"content": "<end_of_turn>"}, "pad_token": None, "sep_token": "<bos>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(names))
    source = "{{ bos_token }}{{ eos_token }}{{ unk_token }}{{ pad_token }}{{ sep_token }}"
    chat = ChatTemplate.load(str(tmp_path), tokenizer, template=source)
    assert chat.render([USER]) == "<bos><end_of_turn><unk><bos>"


def test_unknown_and_padding_that_a_template_writes_are_those_tokens(
    load, tokenizer: Tokenizer
) -> None:
    ids = load("{{ pad_token }}{{ unk_token }}").encode([USER])
    assert ids == [tokenizer.bos_id, tokenizer.pad_id, tokenizer.unk_id]


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_developer_is_the_system(load, role: str) -> None:
    assert load(ECHO).render([{**SYSTEM, "role": role}, USER]).startswith("system:Be brief.;")


@pytest.mark.parametrize("role", ["model", "developer"])
@pytest.mark.parametrize(
    "source",
    [
        "{{% if messages[-2:][0].role == '{}' %}}!{{% endif %}}{{{{ messages[-2:][0].role }}}}",
        "{{% if messages[-2:][0].role in ['a', '{}'] %}}!{{% endif %}}"
        "{{{{ messages[-2:][0].role }}}}",
        "{{{{ {{'{}': '!'}}[messages[-2:][0].role] }}}}{{{{ messages[-2:][0].role }}}}",
        "{{% if messages | selectattr('role', 'eq', '{}') | list %}}!{{% endif %}}"
        "{{{{ messages[-2:][0].role }}}}",
    ],
)
def test_a_role_that_a_template_compares_with_itself_keeps_its_name(
    load, source: str, role: str
) -> None:
    messages = [USER, {"role": role, "content": "Hi"}, USER]
    assert load(source.format(role)).render(messages) == f"!{role}"


def test_a_template_that_only_writes_lists_of_parts_gets_them(load) -> None:
    chat = load("{% for part in messages[0].content %}[{{ part.text }}]{% endfor %}")
    assert chat.render([USER]) == "[ Hello ]"


def test_a_template_that_only_writes_texts_gets_parts_joined(load) -> None:
    parts = [{"type": "text", "text": text} for text in ("Hel", "lo")]
    assert load(ECHO).render([{**USER, "content": parts}]) == "user:Hello;"


def test_an_answer_at_the_end_is_refused(load) -> None:
    with pytest.raises(RowError, match=r"messages\[1\]\.role: the last message must be the user's"):
        load(ECHO).render([USER, {"role": "assistant", "content": "Hi"}])


def test_tool_calls_that_a_template_would_drop_are_refused(load) -> None:
    calls = {"role": "assistant", "content": "", "tool_calls": [{"type": "function"}]}
    with pytest.raises(
        RowError, match=r"messages\[1\]\.tool_calls: the chat template doesn't write them"
    ):
        load(ECHO).render([USER, calls, USER])


@pytest.mark.parametrize("name", ["t.jinja", "t/chat_template.jinja", "t/tokenizer_config.json"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_job_may_name_a_templates_file_or_folder(
    tmp_path: Path, tokenizer: Tokenizer, name: str, whole: bool
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"chat_template": ECHO}) if name.endswith("json") else ECHO)
    address = path if whole or name == "t.jinja" else path.parent
    chat = ChatTemplate.load(str(tmp_path / "none"), tokenizer, template=str(address))
    assert chat.render([USER]) == "user: Hello ;"


def test_a_job_may_give_a_templates_text_and_it_wins(load, tmp_path: Path, tokenizer) -> None:
    load("from the folder")
    chat = ChatTemplate.load(str(tmp_path), tokenizer, template=ECHO)
    assert chat.render([USER]) == "user: Hello ;"


def test_a_template_that_is_not_there_is_named(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(
        WeightsError, match=r"nowhere: no chat template there.*model\.chat_template"
    ):
        ChatTemplate.load(str(tmp_path), tokenizer, template="nowhere")


def test_the_tokenizers_folder_may_have_the_template(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "chat_template.jinja").write_text(ECHO)
    chat = ChatTemplate.load(str(tmp_path / "w"), tokenizer, tokenizer_url=str(tmp_path))
    assert chat.render([USER]) == "user: Hello ;"


def test_a_folder_with_weights_and_tokenizer_is_read_once(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": ECHO}))
    asked: list[str] = []
    monkeypatch.setattr(
        "rgpipeline.text.template_files.read_in",
        lambda folder, name, options: asked.append(name) or read_in(folder, name, options),
    )
    ChatTemplate.load(str(tmp_path), tokenizer, tokenizer_url=str(tmp_path))
    assert asked.count("special_tokens_map.json") == 1


def test_a_template_file_wins_over_the_configuration(load, tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("from the file")
    assert load("from the configuration").render([USER]) == "from the file"


def test_without_a_template_there_are_gemmas_turns(load) -> None:
    assert load(None).render([USER]).startswith("<start_of_turn>user\n Hello <end_of_turn>")


def test_a_faulty_template_names_folder_and_line(load, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=rf"{tmp_path}: .* line 2"):
        load("\n{% if %}")


def test_a_template_that_never_works_is_a_fault_of_the_weights(load) -> None:
    with pytest.raises(WeightsError, match=r"plain chat.*'no_such_function' is undefined"):
        load("{{ no_such_function('%Y') }}")


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
        "{{ dict.__base__ }}{{ dict.mro() }}",
        "{% set ns = namespace(__class__=1) %}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(load, attack: str) -> None:
    with pytest.raises(WeightsError, match="plain chat"):
        load(attack)
