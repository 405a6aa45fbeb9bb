"""Texts as the lines of an OpenAI batch's output file."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rgpipeline.output.openai_logprobs import of_chat, of_completion
from rgpipeline.output.texts import WholeText

_CHAT = "/v1/chat/completions"


def batch_responses(texts: Iterable[WholeText]) -> Iterator[dict[str, Any]]:
    """One response for each row, with a choice for each of its samples.

    A row's response comes when its last sample has; rows that still go on are left out. Memory
    holds the samples of rows that are not complete.
    """
    samples: dict[tuple[int, int], list[WholeText]] = {}
    for text in texts:
        if text.finish_reason is None:
            continue
        row = samples.setdefault(text.row, [])
        row.append(text)
        if len(row) >= text.samples:
            yield _response(sorted(samples.pop(text.row), key=lambda one: one.sample))


def _response(row: Sequence[WholeText]) -> dict[str, Any]:
    first = row[0]
    name = hashlib.sha256(f"{first.row}\x00{first.id}".encode("utf-8", "replace")).hexdigest()[:24]
    sent = first.kept.get("custom_id")  # empty, where the request is refused for that
    error = next((text.error for text in row if text.error is not None), None)
    if error is None:
        status, body = 200, _body(row, name)
    else:
        about = {"message": error, "type": "invalid_request_error", "param": None, "code": None}
        status, body = 400, {"error": about}
    return {
        "id": f"batch_req_{name}",
        "custom_id": first.id if sent is None else sent,
        "response": {"status_code": status, "request_id": name, "body": body},
        "error": None,
    }


def _body(row: Sequence[WholeText], name: str) -> Mapping[str, Any]:
    first = row[0]
    chat = first.kept.get("url") == _CHAT
    generated = sum(text.completion_tokens for text in row)
    return {
        "id": f"{'chatcmpl' if chat else 'cmpl'}-{name}",
        "object": "chat.completion" if chat else "text_completion",
        "created": 0,  # when a row was done is no part of the output
        "model": first.kept.get("model") or first.model,
        "choices": [_choice(text, chat) for text in row],
        "usage": {
            "prompt_tokens": first.prompt_tokens,
            "completion_tokens": generated,
            "total_tokens": first.prompt_tokens + generated,
        },
    }


def _choice(text: WholeText, chat: bool) -> dict[str, Any]:
    message = {"role": "assistant", "content": text.text, "refusal": None}
    return {
        "index": text.sample,
        **({"message": message} if chat else {"text": text.text}),
        "logprobs": _logprobs(text, chat),
        "finish_reason": text.finish_reason,
    }


def _logprobs(text: WholeText, chat: bool) -> dict[str, Any] | None:
    """Those that the request asked for, not the job."""
    asked = text.kept.get("top_logprobs")
    if asked is None or not isinstance(text.logprobs, Mapping):
        return None
    return of_chat(text.logprobs, asked) if chat else of_completion(text.logprobs, asked)
