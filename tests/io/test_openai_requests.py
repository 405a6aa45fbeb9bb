"""OpenAI batch files: what each request asks for, and what is refused instead of ignored."""

import json
from pathlib import Path
from typing import Any

import pytest

from rgpipeline.errors import RowError
from rgpipeline.io.input_files import FoundFile
from rgpipeline.io.openai_requests import SCHEMA, OpenAIBatchReader, parse_request
from rgpipeline.records import InputFile
from rgpipeline.spec import Sampling

CHAT, PLAIN = "/v1/chat/completions", "/v1/completions"
HELLO = [{"role": "user", "content": "Hello"}]


def request(url: str = PLAIN, **body: Any) -> dict[str, Any]:
    default = {"messages": HELLO} if url == CHAT else {"prompt": "Hello"}
    return {"custom_id": "r-1", "method": "POST", "url": url, "body": {**default, **body}}


def sampling(**body: Any) -> dict[str, Any]:
    url = body.pop("url", PLAIN)
    asked: dict[str, Any] = json.loads(parse_request(request(url, **body))["sampling"])
    Sampling.model_validate(asked)
    return asked


def test_a_completion_request_is_its_prompt() -> None:
    assert parse_request(request(model="m", max_tokens=7)) == {
        "custom_id": "r-1",
        "url": PLAIN,
        "model": "m",
        "prompt": "Hello",
        "sampling": '{"max_tokens": 7}',
    }


def test_a_chat_request_is_its_messages() -> None:
    row = parse_request(request(CHAT, max_completion_tokens=9))
    assert json.loads(row["messages"]) == HELLO
    assert json.loads(row["sampling"]) == {"max_tokens": 9}
    assert "prompt" not in row


TOOLS = [{"type": "function", "function": {"name": "get_time", "parameters": {}}}]


def calling(arguments: str) -> list[dict[str, Any]]:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return [*HELLO, {"role": "assistant", "content": None, "tool_calls": [call]}, *HELLO]


def test_a_chats_tools_are_passed_on_unless_none_may_be_called() -> None:
    row = parse_request(request(CHAT, tools=TOOLS, tool_choice="auto"))
    assert json.loads(row["tools"]) == TOOLS
    assert "tools" not in parse_request(request(CHAT, tools=TOOLS, tool_choice="none"))


def test_arguments_of_calls_are_objects_as_templates_write_them() -> None:
    row = parse_request(request(CHAT, messages=calling('{"zone": "é"}')))
    (call,) = json.loads(row["messages"])[1]["tool_calls"]
    assert call["function"] == {"name": "f", "arguments": {"zone": "é"}}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"tools": {}}, "body.tools: a list is expected, found dict"),
        ({"tools": TOOLS, "tool_choice": "required"}, "body.tool_choice: not supported"),
        ({"tools": TOOLS, "parallel_tool_calls": False}, "body.parallel_tool_calls: false is not"),
        (
            {"messages": calling("{")},
            r"body.messages\[1\].tool_calls\[0\].function.arguments: not JSON",
        ),
        ({"messages": calling("[]")}, "arguments: JSON of an object is expected"),
    ],
)
def test_tools_that_can_t_be_passed_on_are_refused(body: dict[str, Any], says: str) -> None:
    with pytest.raises(RowError, match=says):
        parse_request(request(CHAT, **body))


@pytest.mark.parametrize(
    ("prompt", "column", "value"),
    [
        ("text", "prompt", "text"),
        (["text"], "prompt", "text"),
        ([1, 2], "prompt_ids", [1, 2]),
        ([[1, 2]], "prompt_ids", [1, 2]),
    ],
)
def test_a_prompt_is_a_text_or_token_ids(prompt: Any, column: str, value: Any) -> None:
    assert parse_request(request(prompt=prompt))[column] == value


def test_names_of_openai_and_vllm_become_ours() -> None:
    asked = {"temperature": 0.5, "top_p": 0.9, "top_k": 4, "min_p": 0.1, "n": 2, "seed": 3}
    others = {"presence_penalty": 1, "frequency_penalty": 0.5, "repetition_penalty": 1.1}
    rest = {"stop": ["a", "b"], "stop_token_ids": [5], "ignore_eos": True, "min_tokens": 2}
    ours = {**asked, **others, **rest, "stop_ids": [5]}
    del ours["stop_token_ids"]
    assert sampling(**asked, **others, **rest) == ours
    assert sampling(logit_bias={"17": -100}) == {"logit_bias": {"17": -100}}


@pytest.mark.parametrize(
    ("body", "ours"),
    [
        ({"logprobs": None}, {}),
        ({"logprobs": 0}, {"logprobs": 1}),
        ({"logprobs": 1}, {"logprobs": 2}),  # of ours, 1 is the sampled token's alone
        ({"logprobs": 5}, {"logprobs": 5}),
        ({"url": CHAT, "logprobs": False}, {}),
        ({"url": CHAT, "logprobs": True}, {"logprobs": 1}),
        ({"url": CHAT, "logprobs": True, "top_logprobs": 0}, {"logprobs": 1}),
        ({"url": CHAT, "logprobs": True, "top_logprobs": 1}, {"logprobs": 2}),
        ({"url": CHAT, "logprobs": True, "top_logprobs": 4}, {"logprobs": 4}),
        ({"url": CHAT, "logprobs": False, "top_logprobs": 0}, {}),
    ],
)
def test_log_probabilities_are_asked_for_in_their_two_ways(
    body: dict[str, Any], ours: dict[str, Any]
) -> None:
    assert sampling(**body) == ours


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        ({"logprobs": 0}, 0),
        ({"logprobs": 1}, 1),
        ({"url": CHAT, "logprobs": True}, 0),
        ({"url": CHAT, "logprobs": True, "top_logprobs": 1}, 1),
    ],
)
def test_how_many_were_asked_for_is_kept_for_the_answer(body: dict[str, Any], asked: int) -> None:
    assert parse_request(request(**{"url": PLAIN, **body}))["top_logprobs"] == asked


HARMLESS = {
    "stream": False,
    "stream_options": {"include_usage": True},
    "echo": False,
    "best_of": 1,
    "suffix": "",
    "user": "me",
    "metadata": {"a": "b"},
    "store": True,
    "service_tier": "flex",
    "safety_identifier": "me",
    "prompt_cache_key": "key",
    "prompt_cache_retention": "24h",
    "parallel_tool_calls": False,
    "tools": [],
    "tool_choice": "none",
    "functions": [],
    "function_call": "none",
    "response_format": {"type": "text"},
    "modalities": ["text"],
    "reasoning_effort": "none",
    "verbosity": "medium",
    "audio": None,
    "prediction": None,
    "seed": None,
    "stop": None,
    "use_beam_search": False,
    "length_penalty": 1.0,
    "include_stop_str_in_output": False,
    "skip_special_tokens": True,
    "spaces_between_special_tokens": True,
    "truncate_prompt_tokens": None,
    "return_tokens_as_token_ids": False,
    "bad_words": [],
    "chat_template_kwargs": {},
    "add_generation_prompt": True,
    "continue_final_message": False,
    "guided_json": None,
    "priority": 0,
}


@pytest.mark.parametrize("name", HARMLESS)
@pytest.mark.parametrize("url", [CHAT, PLAIN])
def test_what_asks_for_nothing_is_let_pass(url: str, name: str) -> None:
    assert sampling(url=url, **{name: HARMLESS[name]}) == {}


@pytest.mark.parametrize(
    ("url", "field", "value"),
    [
        (CHAT, "tool_choice", "required"),
        (CHAT, "modalities", ["text", "audio"]),
        (CHAT, "web_search_options", {}),
        (CHAT, "add_special_tokens", True),
        (PLAIN, "add_special_tokens", False),
        (PLAIN, "skip_special_tokens", False),
        (PLAIN, "include_stop_str_in_output", True),
        (PLAIN, "length_penalty", 0.5),
        (PLAIN, "stream", 0),
        (PLAIN, "best_of", 2),
        (PLAIN, "structural_tag", "a"),
    ],
)
def test_what_asks_for_more_is_refused(url: str, field: str, value: Any) -> None:
    with pytest.raises(RowError, match=rf"body\.{field}: not supported; remove it"):
        parse_request(request(url, **{field: value}))


SCHEMA_ASKED = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
JSON = {"structured_outputs": {"json": {"type": "object"}}}


@pytest.mark.parametrize(
    ("body", "ours"),
    [
        ({"response_format": {"type": "text"}}, {}),
        (
            {"response_format": {"type": "json_object"}},
            {"structured_outputs": {"json_object": True}},
        ),
        ({"response_format": SCHEMA_ASKED}, JSON),
        ({"structured_outputs": {"regex": "a+"}}, {"structured_outputs": {"regex": "a+"}}),
        ({"guided_json": {"type": "object"}}, JSON),
        ({"guided_regex": "a+"}, {"structured_outputs": {"regex": "a+"}}),
        ({"guided_choice": ["a", "b"]}, {"structured_outputs": {"choice": ["a", "b"]}}),
        ({"guided_grammar": "start: A"}, {"structured_outputs": {"grammar": "start: A"}}),
        ({"guided_json_object": False, "guided_choice": None}, {}),
    ],
)
def test_an_answers_form_is_asked_for_by_openais_and_vllms_names(
    body: dict[str, Any], ours: dict[str, Any]
) -> None:
    assert sampling(url=CHAT, **body) == ours


@pytest.mark.parametrize("strict", [None, True, False])
def test_a_schema_is_followed_whether_strict_or_not(strict: bool | None) -> None:
    described = {**SCHEMA_ASKED["json_schema"], "strict": strict}  # type: ignore[dict-item]
    asked = {"type": "json_schema", "json_schema": described}
    assert sampling(url=CHAT, response_format=asked) == JSON


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"response_format": "json"}, "its type is text, json_object or json_schema; found 'json'"),
        ({"response_format": {"type": "xml"}}, "found 'xml'"),
        ({"response_format": {"type": "json_schema"}}, "json_schema.schema: missing"),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"schema": {}, "strict": 1},
                }
            },
            "strict: true or false is expected",
        ),
        (
            {"response_format": {"type": "json_object"}, "guided_regex": "a"},
            "body.response_format and body.guided_regex: only one of them may be given",
        ),
        (
            {"structured_outputs": {"regex": "a"}, "guided_regex": "a"},
            "only one of them may be given",
        ),
    ],
)
def test_a_form_that_cannot_be_followed_is_refused(body: dict[str, Any], says: str) -> None:
    with pytest.raises(RowError, match=says):
        parse_request(request(CHAT, **body))


def test_special_tokens_are_added_as_each_address_does_by_itself() -> None:
    assert sampling(url=CHAT, add_special_tokens=False) == {}
    assert sampling(url=PLAIN, add_special_tokens=True) == {}


def test_a_top_k_of_minus_1_keeps_all() -> None:
    assert sampling(top_k=-1) == {"top_k": 0}


def test_the_newer_name_of_max_tokens_counts() -> None:
    both = {"max_completion_tokens": 5, "max_tokens": 9}
    assert sampling(url=CHAT, **both) == {"max_tokens": 5}


@pytest.mark.parametrize(("name", "known"), [(7, "7"), (1.5, "1.5"), ("", ""), (None, None)])
def test_a_refused_custom_id_is_known_to_its_answer(name: Any, known: str | None) -> None:
    line = json.dumps({**request(), "custom_id": name}).encode()
    with pytest.raises(RowError, match="custom_id"):
        OpenAIBatchReader(None).parse(line)
    assert OpenAIBatchReader(None).known(line).get("custom_id") == known


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"custom_id": None}, "custom_id: missing or not text"),
        ({"custom_id": 7}, 'custom_id: 7 is not text; write it in quotes, such as "r-7"'),
        ({"custom_id": ""}, "custom_id: empty"),
        ({"body": {"prompt": "a", "model": 5}}, "body.model: text is expected, found int"),
        ({"body": {"prompt": "a", "logprobs": 21}}, "body.logprobs: a number is expected, from 0"),
        ({"url": CHAT, "body": {"messages": HELLO, "logprobs": 1}}, "body.logprobs: true or false"),
        ({"url": CHAT, "body": {"messages": HELLO, "top_logprobs": 2}}, "needs logprobs: true"),
        ({"url": "/v1/embeddings"}, "url: '/v1/embeddings' is not /v1/completions or /v1/chat"),
        ({"method": "GET"}, "method: 'GET' is not POST"),
        ({"body": None}, "body: missing or not an object"),
        ({"body": {"prompt": ["a", "b"]}}, "body.prompt: one text, or one list of token ids"),
        ({"body": {"prompt": [1.5]}}, "body.prompt: one text"),
        ({"body": {}}, "body.prompt: one text"),
        ({"url": CHAT, "body": {}}, "body.messages: missing or not a list"),
        ({"body": {"prompt": "a", "stream": True}}, "body.stream: not supported; remove it"),
        ({"body": {"prompt": "a", "tools": [{}]}}, "body.tools: not supported; remove it"),
        ({"body": {"prompt": "a", "temprature": 1}}, "body.temprature: not supported"),
        ({"body": {"prompt": "a", "logprobs": "x"}}, "body.logprobs: a number is expected"),
        ({"body": {"prompt": "a", "logprobs": True}}, "body.logprobs: a number is expected"),
        ({"url": CHAT, "body": {"messages": HELLO, "top_logprobs": "x", "logprobs": True}}, "top"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(change: dict[str, Any], fault: str) -> None:
    with pytest.raises(RowError) as raised:
        parse_request({**request(), **change})
    assert fault in str(raised.value)


def test_a_file_has_always_the_same_columns_and_bad_requests_are_rows(tmp_path: Path) -> None:
    path = tmp_path / "batch.jsonl"
    refused = json.dumps({**request(stream=True), "custom_id": "r-2"})
    path.write_text(f"{json.dumps(request())}\nnot json\n{refused}\n")
    reader = OpenAIBatchReader(None)
    scan = reader.scan(FoundFile(str(path), "batch.jsonl", 0, ""))
    assert (scan.rows, scan.schema) == (3, SCHEMA)
    rows = reader.read(InputFile(str(path), "batch.jsonl", 0, "", 3), 0, 3, SCHEMA)
    assert rows.table.column("custom_id").to_pylist() == ["r-1", None, "r-2"]
    assert list(rows.faults) == [1, 2]
