"""Texts as the lines of an OpenAI batch's output file, with log-probabilities in its two forms."""

import codecs
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rgpipeline.output.whole_texts import WholeText

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


_LEAST = -9999.0  # JSON knows no infinity; OpenAI's least number
_PART = re.compile(r"bytes:((?:\\x[0-9a-f]{2})+)")

Logprobs = Mapping[str, Any]  # as the `logprobs` column of a batch holds them, see SegmentLogprobs


def of_chat(logprobs: Logprobs, asked: int) -> dict[str, Any]:
    """`choices[].logprobs` of a chat; `asked` is the request's top_logprobs."""
    content = []
    for place, (token, number) in enumerate(_sampled(logprobs)):
        top = _top(logprobs, place, asked)
        content.append({**_entry(token, number), "top_logprobs": [_entry(*one) for one in top]})
    return {"content": content, "refusal": None}


def of_completion(logprobs: Logprobs, asked: int) -> dict[str, Any]:
    """`choices[].logprobs` of a completion; `asked` is the request's logprobs.

    The sampled token is always among `top_logprobs`, so there may be asked + 1 of them.
    """
    sampled = _sampled(logprobs)
    tops: list[dict[str, float] | None] = []
    for place, (token, number) in enumerate(sampled):
        top: dict[str, float] = {}
        for other, its in [*_top(logprobs, place, asked), (token, number)]:
            top.setdefault(other, its)
        tops.append(top if asked else None)
    return {
        "tokens": [token for token, _ in sampled],
        "token_logprobs": [number for _, number in sampled],
        "top_logprobs": tops if asked else None,
        "text_offset": _offsets([token for token, _ in sampled]),
    }


def _sampled(logprobs: Logprobs) -> list[tuple[str, float]]:
    return _pairs(logprobs["tokens"], logprobs["sampled"])


def _top(logprobs: Logprobs, place: int, asked: int) -> list[tuple[str, float]]:
    if not asked:
        return []
    return _pairs(logprobs["top_tokens"][place], logprobs["top"][place])[:asked]


def _pairs(tokens: Sequence[str], numbers: Sequence[float]) -> list[tuple[str, float]]:
    return [(token, max(number, _LEAST)) for token, number in zip(tokens, numbers, strict=True)]


def _entry(token: str, number: float) -> dict[str, Any]:
    return {"token": token, "logprob": number, "bytes": list(_bytes(token))}


def _bytes(token: str) -> bytes:
    part = _PART.fullmatch(token)
    return bytes.fromhex(part[1].replace("\\x", "")) if part else token.encode("utf-8", "replace")


def _offsets(tokens: Sequence[str]) -> list[int]:
    """Where in the text each token begins, in characters; one cut in two begins with its first."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    offsets, length = [], 0
    for token in tokens:
        offsets.append(length)
        length += len(decoder.decode(_bytes(token)))
    return offsets
