"""OpenAI batch files: what each request asks for, and what is refused instead of ignored."""

import json
from pathlib import Path
from typing import Any

import pytest

from rgpipeline.errors import RowError
from rgpipeline.io.files import FoundFile
from rgpipeline.io.openai_batch import SCHEMA, OpenAIBatchReader, parse_request
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
        ({"logprobs": 5}, {"logprobs": 5}),
        ({"url": CHAT, "logprobs": False}, {}),
        ({"url": CHAT, "logprobs": True}, {"logprobs": 1}),
        ({"url": CHAT, "logprobs": True, "top_logprobs": 4}, {"logprobs": 4}),
    ],
)
def test_log_probabilities_are_asked_for_in_their_two_ways(
    body: dict[str, Any], ours: dict[str, Any]
) -> None:
    assert sampling(**body) == ours


def test_what_asks_for_nothing_is_let_pass() -> None:
    harmless = {"stream": False, "echo": False, "best_of": 1, "suffix": "", "user": "me"}
    assert sampling(**harmless, tools=[], response_format={"type": "text"}, stop=None) == {}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"custom_id": None}, "custom_id: missing or not text"),
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
