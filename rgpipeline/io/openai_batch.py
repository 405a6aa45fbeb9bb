"""OpenAI batch files as input: requests to /v1/completions and /v1/chat/completions.

Every line becomes a row with the columns of `SCHEMA`; only custom_id, url and model are carried
to the output, the rest says what to generate. Options that we have no equal of are refused, each
in its row: an answer that silently ignored half of its request would look right.
"""

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from rgpipeline.errors import RowError
from rgpipeline.io.json_types import ColumnTypes
from rgpipeline.io.jsonl import JsonLinesReader, Row, parse_object
from rgpipeline.spec import Columns

SCHEMA = pa.schema(
    [
        ("custom_id", pa.string()),
        ("url", pa.string()),
        ("model", pa.string()),
        ("prompt", pa.string()),
        ("prompt_ids", pa.list_(pa.int64())),
        ("messages", pa.string()),  # JSON
        ("sampling", pa.string()),  # JSON: our names
    ]
)
KEPT = ("custom_id", "url", "model")
COLUMNS = Columns(
    id="custom_id",
    prompt="prompt",
    prompt_ids="prompt_ids",
    messages="messages",
    sampling="sampling",
)
URLS = ("/v1/completions", "/v1/chat/completions")

_SAME = {  # OpenAI's names, and those that vLLM added, for the same thing
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "min_tokens": "min_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "n": "n",
    "seed": "seed",
    "stop": "stop",
    "stop_token_ids": "stop_ids",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "repetition_penalty": "repetition_penalty",
    "logit_bias": "logit_bias",
    "ignore_eos": "ignore_eos",
}
_OF_NO_EFFECT = {"model", "user", "metadata", "store", "service_tier", "parallel_tool_calls"}
_HARMLESS: dict[str, Callable[[Any], bool]] = {  # values that ask for nothing we lack
    "stream": lambda value: value is False,
    "echo": lambda value: value is False,
    "best_of": lambda value: value == 1,
    "suffix": lambda value: value == "",
    "tools": lambda value: value == [],
    "response_format": lambda value: value == {"type": "text"},
}
_NAMES = ("custom_id", "url")
_PROMPTS = {"prompt", "messages", "logprobs", "top_logprobs"}


class OpenAIBatchReader(JsonLinesReader):
    """`Reader` of OpenAI batch request files."""

    def parse(self, line: bytes) -> Row:
        return parse_request(parse_object(line))

    def known(self, line: bytes) -> Row:
        """The name and address of a refused request: by these its sender knows it."""
        try:
            request = parse_object(line)
        except RowError:
            return {}
        return {key: request[key] for key in _NAMES if isinstance(request.get(key), str)}

    def schema(self, types: ColumnTypes) -> pa.Schema:
        return SCHEMA


def parse_request(request: Row) -> Row:
    """The row for one request of a batch file. Raises RowError naming the field at fault."""
    url, body, name = request.get("url"), request.get("body"), request.get("custom_id")
    if not isinstance(name, str):
        raise RowError("custom_id: missing or not text")
    if url not in URLS:
        raise RowError(f"url: {url!r} is not {' or '.join(URLS)}")
    if request.get("method", "POST") != "POST":
        raise RowError(f"method: {request['method']!r} is not POST")
    if not isinstance(body, dict):
        raise RowError("body: missing or not an object")
    prompt = _chat(body) if url == URLS[1] else _prompt(body.get("prompt"))
    model = body.get("model")
    return {
        "custom_id": name,
        "url": url,
        "model": model if isinstance(model, str) else None,
        "sampling": json.dumps(_sampling(body, chat=url == URLS[1])),
        **prompt,
    }


def _chat(body: Row) -> Row:
    if not isinstance(body.get("messages"), list):
        raise RowError("body.messages: missing or not a list")
    return {"messages": json.dumps(body["messages"])}


def _prompt(prompt: Any) -> Row:
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return {"prompt": prompt}
    if isinstance(prompt, list) and prompt and all(type(token) is int for token in prompt):
        return {"prompt_ids": prompt}
    raise RowError("body.prompt: one text, or one list of token ids, is expected")


def _sampling(body: Row, chat: bool) -> dict[str, Any]:
    sampling: dict[str, Any] = {}
    for name, value in body.items():
        if value is None or name in _OF_NO_EFFECT or name in _PROMPTS:
            continue
        if name in _SAME:
            sampling[_SAME[name]] = value
        elif not (name in _HARMLESS and _HARMLESS[name](value)):
            raise RowError(f"body.{name}: not supported; remove it")
    logprobs = _logprobs(body, chat)
    return sampling if logprobs is None else {**sampling, "logprobs": logprobs}


def _logprobs(body: Row, chat: bool) -> int | None:
    """Ours counts the most probable tokens told, 1 for the sampled one's alone."""
    asked, top = body.get("logprobs"), body.get("top_logprobs")
    if asked is None or asked is False:
        return None
    name, count = ("top_logprobs", top or 0) if chat else ("logprobs", asked)
    if type(count) is not int:
        raise RowError(f"body.{name}: a number is expected")
    return max(1, count)
