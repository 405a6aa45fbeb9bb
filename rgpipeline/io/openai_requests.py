"""OpenAI batch files as input: requests to /v1/completions and /v1/chat/completions.

Every line becomes a row with the columns of `SCHEMA`; `input_formats` says what they mean. What
can't be done as it is asked is refused in its row.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from rgpipeline.errors import RowError
from rgpipeline.io.json_types import ColumnTypes
from rgpipeline.io.jsonl import JsonLinesReader, Row, parse_object
from rgpipeline.io.openai_constraints import CONSTRAINTS, constraint_of
from rgpipeline.io.openai_tools import offered_tools, with_parsed_arguments
from rgpipeline.spec import MAX_LOGPROBS, openai_names

SCHEMA = pa.schema(
    [
        ("custom_id", pa.string()),
        ("url", pa.string()),
        ("model", pa.string()),
        ("top_logprobs", pa.int64()),  # null where no log-probabilities are asked for
        ("prompt", pa.string()),
        ("prompt_ids", pa.list_(pa.int64())),
        ("messages", pa.string()),  # JSON
        ("tools", pa.string()),  # JSON; null where there are none
        ("sampling", pa.string()),  # JSON: our names
    ]
)
URLS = ("/v1/completions", "/v1/chat/completions")

_NAMES = ("custom_id", "url")


class OpenAIBatchReader(JsonLinesReader):
    """`Reader` of OpenAI batch request files."""

    def parse(self, line: bytes) -> Row:
        return parse_request(parse_object(line))

    def known(self, line: bytes) -> Row:
        """`custom_id` and `url` of a refused request, by which its sender identifies it."""
        try:
            request = parse_object(line)
        except RowError:
            return {}
        number = request.get("custom_id")
        if isinstance(number, int | float) and not isinstance(number, bool):
            request["custom_id"] = str(number)
        return {key: request[key] for key in _NAMES if isinstance(request.get(key), str)}

    def columns(self, types: ColumnTypes) -> tuple[pa.Schema, ColumnTypes | None]:
        return SCHEMA, None


def parse_request(request: Row) -> Row:
    """The row for one request of a batch file. Raises RowError naming the field at fault."""
    url, body = request.get("url"), request.get("body")
    name = _custom_id(request.get("custom_id"))
    if url not in URLS:
        raise RowError(f"url: {url!r} is not {' or '.join(URLS)}")
    if request.get("method", "POST") != "POST":
        raise RowError(f"method: {request['method']!r} is not POST")
    if not isinstance(body, dict):
        raise RowError("body: missing or not an object")
    chat = url == URLS[1]
    prompt = _chat(body) if chat else _prompt(body.get("prompt"))
    model = body.get("model")
    if not isinstance(model, str | None):
        raise RowError(f"body.model: text is expected, found {type(model).__name__}")
    asked = top_logprobs(body, chat)
    return {
        "custom_id": name,
        "url": url,
        "model": model,
        "sampling": json.dumps(sampling_of(body, chat)),
        **prompt,
        **({} if asked is None else {"top_logprobs": asked}),
    }


def _custom_id(name: Any) -> str:
    if name is None:
        raise RowError("custom_id: missing or not text; give every request a text of its own")
    if not isinstance(name, str):
        found = json.dumps(name)
        raise RowError(f'custom_id: {found} is not text; write it in quotes, such as "r-{found}"')
    if not name:
        raise RowError("custom_id: empty, so its answer can't be found; give it a text of its own")
    return name


def _chat(body: Row) -> Row:
    if not isinstance(body.get("messages"), list):
        raise RowError("body.messages: missing or not a list")
    messages = [
        with_parsed_arguments(message, f"body.messages[{index}]")
        for index, message in enumerate(body["messages"])
    ]
    tools = offered_tools(body)
    offered = {"tools": json.dumps(tools)} if tools else {}
    return {"messages": json.dumps(messages), **offered}


def _prompt(prompt: Any) -> Row:
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return {"prompt": prompt}
    if isinstance(prompt, list) and prompt and all(type(token) is int for token in prompt):
        return {"prompt_ids": prompt}
    raise RowError("body.prompt: one text, or one list of token ids, is expected")


_OUR_NAMES = openai_names()
_OF_NO_EFFECT = {  # on the answer: who asks, how urgently, what a server may keep
    "model",
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
    "parallel_tool_calls",  # calls are not parsed: the answer is what the model wrote
    "include_reasoning",  # there is no reasoning
    "spaces_between_special_tokens",  # special tokens are left out of texts
    "guided_decoding_backend",  # there is one
    "request_id",
    "priority",
    "cache_salt",
}
_ELSEWHERE = {"prompt", "messages", "logprobs", "top_logprobs", *CONSTRAINTS}


def _one_of(*values: Any) -> Callable[[Any], bool]:
    """Whether a value is one of these, of the same type: 0 is not False."""
    return lambda value: any(type(value) is type(one) and value == one for one in values)


_off, _on, _empty = _one_of(False), _one_of(True), _one_of([], {})
_HARMLESS: dict[str, Callable[[Any], bool]] = {  # values that ask for nothing we lack
    "stream": _off,
    "stream_options": lambda value: isinstance(value, dict) and not {*value} - {"include_usage"},
    "echo": _off,
    "best_of": _one_of(1),
    "suffix": _one_of(""),
    "tools": _empty,
    "tool_choice": _one_of("none", "auto"),
    "functions": _empty,
    "function_call": _one_of("none", "auto"),
    "modalities": _one_of(["text"]),
    "reasoning_effort": _one_of("none"),
    "verbosity": _one_of("medium"),
    "moderation": _empty,
    "use_beam_search": _off,
    "length_penalty": _one_of(1, 1.0),  # of beams
    "early_stopping": _off,
    "include_stop_str_in_output": _off,
    "skip_special_tokens": _on,
    "return_tokens_as_token_ids": _off,
    "return_token_ids": _off,
    "allowed_token_ids": _empty,
    "bad_words": _empty,
    "logits_processors": _empty,
    "documents": _empty,
    "chat_template_kwargs": _empty,
    "mm_processor_kwargs": _empty,
    "kv_transfer_params": _empty,
    "vllm_xargs": _empty,
    "add_generation_prompt": _on,
    "continue_final_message": _off,
}


def sampling_of(body: Mapping[str, Any], chat: bool) -> dict[str, Any]:
    """What a request's body asks for, by our names. Raises RowError naming what can't be done."""
    for name, value in body.items():
        known = name in _OUR_NAMES or name in _OF_NO_EFFECT or name in _ELSEWHERE
        known = known or (chat and name == "tools")
        if value is not None and not known and not _asks_for_nothing(name, value, chat):
            raise RowError(f"body.{name}: not supported; remove it")
    given = [(ours, body.get(theirs)) for theirs, ours in _OUR_NAMES.items()]
    sampling = {name: value for name, value in given if value is not None}
    if sampling.get("top_k") == -1:  # vLLM's way to keep all
        sampling["top_k"] = 0
    if (constraint := constraint_of(body)) is not None:
        sampling["structured_outputs"] = constraint
    asked = top_logprobs(body, chat)
    # Ours counts the most probable tokens from 2; 1 is the sampled token's alone.
    return sampling if asked is None else {**sampling, "logprobs": max(2, asked) if asked else 1}


def top_logprobs(body: Mapping[str, Any], chat: bool) -> int | None:
    """How many of the most probable tokens are asked for; None without log-probabilities.

    Raises RowError.
    """
    asked, top = body.get("logprobs"), body.get("top_logprobs")
    if chat:
        if asked not in (None, False, True) or type(asked) is int:
            raise RowError("body.logprobs: true or false is expected in a chat")
        if top and not asked:
            raise RowError("body.top_logprobs: needs logprobs: true")
        name, count = "top_logprobs", (top or 0)
    else:
        if top:
            raise RowError("body.top_logprobs: is for chats; a completion has logprobs: NUMBER")
        name, count = "logprobs", asked
    if asked is None or asked is False:
        return None
    if type(count) is not int or not 0 <= count <= MAX_LOGPROBS:
        raise RowError(f"body.{name}: a number is expected, from 0 to {MAX_LOGPROBS}")
    return count


def _asks_for_nothing(name: str, value: Any, chat: bool) -> bool:
    if name == "add_special_tokens":  # a prompt has exactly one BOS in any case
        return value is not chat and isinstance(value, bool)
    return name in _HARMLESS and _HARMLESS[name](value)
