"""Texts as the lines of an OpenAI batch's output file, with log-probabilities in its two forms."""

import codecs
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rgpipeline.output.whole_texts import WholeText

_CHAT = "/v1/chat/completions"


def batch_responses(texts: Iterable[WholeText]) -> Iterator[dict[str, Any]]:
    """One response for each finished row, with a choice for each of its samples.

    A row's response follows its last sample; unfinished rows have none. Samples of unfinished rows
    are kept in memory.
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
    sent = first.kept.get("custom_id")  # empty where the request was refused for that
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
        "created": 0,  # the output has no times
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
    """The log-probabilities that the request top_count for; the job may have more."""
    top_count = text.kept.get("top_logprobs")
    if top_count is None or not isinstance(text.logprobs, Mapping):
        return None
    return of_chat(text.logprobs, top_count) if chat else of_completion(text.logprobs, top_count)


_LEAST = -9999.0  # OpenAI's smallest number, for JSON has no infinity
_PART = re.compile(r"bytes:((?:\\x[0-9a-f]{2})+)")

Logprobs = Mapping[str, Any]  # as the `logprobs` column of a batch holds them, see SegmentLogprobs


def of_chat(logprobs: Logprobs, top_count: int) -> dict[str, Any]:
    """`choices[].logprobs` of a chat; `top_count`: the request's top_logprobs."""
    content = []
    for index, (token, number) in enumerate(_sampled(logprobs)):
        top = _top(logprobs, index, top_count)
        content.append({**_entry(token, number), "top_logprobs": [_entry(*one) for one in top]})
    return {"content": content, "refusal": None}


def of_completion(logprobs: Logprobs, top_count: int) -> dict[str, Any]:
    """`choices[].logprobs` of a completion; `top_count`: the request's logprobs.

    The sampled token is always among `top_logprobs`, so it may have top_count + 1 entries.
    """
    sampled = _sampled(logprobs)
    tops: list[dict[str, float] | None] = []
    for index, (token, number) in enumerate(sampled):
        top: dict[str, float] = {}
        for other, its in [*_top(logprobs, index, top_count), (token, number)]:
            top.setdefault(other, its)
        tops.append(top if top_count else None)
    return {
        "tokens": [token for token, _ in sampled],
        "token_logprobs": [number for _, number in sampled],
        "top_logprobs": tops if top_count else None,
        "text_offset": _offsets([token for token, _ in sampled]),
    }


def _sampled(logprobs: Logprobs) -> list[tuple[str, float]]:
    return _pairs(logprobs["tokens"], logprobs["sampled"])


def _top(logprobs: Logprobs, index: int, top_count: int) -> list[tuple[str, float]]:
    if not top_count:
        return []
    return _pairs(logprobs["top_tokens"][index], logprobs["top"][index])[:top_count]


def _pairs(tokens: Sequence[str], numbers: Sequence[float]) -> list[tuple[str, float]]:
    return [(token, max(number, _LEAST)) for token, number in zip(tokens, numbers, strict=True)]


def _entry(token: str, number: float) -> dict[str, Any]:
    return {"token": token, "logprob": number, "bytes": list(_bytes(token))}


def _bytes(token: str) -> bytes:
    part = _PART.fullmatch(token)
    return bytes.fromhex(part[1].replace("\\x", "")) if part else token.encode("utf-8", "replace")


def _offsets(tokens: Sequence[str]) -> list[int]:
    """The offset of each token in the text, in characters; one cut in two has that of its first."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    offsets, length = [], 0
    for token in tokens:
        offsets.append(length)
        length += len(decoder.decode(_bytes(token)))
    return offsets
