"""OpenAI batch files as input: requests to /v1/completions and /v1/chat/completions.

Every line becomes a row with the columns of `SCHEMA`; those in `KEPT` are carried to the output,
the rest says what to generate. A request that can't be done as it is asked is refused in its row.
"""

import json
from typing import Any

import pyarrow as pa

from rgpipeline.errors import RowError
from rgpipeline.io.json_types import ColumnTypes
from rgpipeline.io.jsonl import JsonLinesReader, Row, parse_object
from rgpipeline.io.openai_parameters import sampling_of, top_logprobs
from rgpipeline.spec import Columns

SCHEMA = pa.schema(
    [
        ("custom_id", pa.string()),
        ("url", pa.string()),
        ("model", pa.string()),
        ("top_logprobs", pa.int64()),  # null where no log-probabilities are asked for
        ("prompt", pa.string()),
        ("prompt_ids", pa.list_(pa.int64())),
        ("messages", pa.string()),  # JSON
        ("sampling", pa.string()),  # JSON: our names
    ]
)
KEPT = ("custom_id", "url", "model", "top_logprobs")
COLUMNS = Columns(
    id="custom_id",
    prompt="prompt",
    prompt_ids="prompt_ids",
    messages="messages",
    sampling="sampling",
)
URLS = ("/v1/completions", "/v1/chat/completions")

_NAMES = ("custom_id", "url")


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
        told = json.dumps(name)
        raise RowError(f'custom_id: {told} is not text; write it in quotes, such as "r-{told}"')
    if not name:
        raise RowError("custom_id: empty, so its answer can't be found; give it a text of its own")
    return name


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
