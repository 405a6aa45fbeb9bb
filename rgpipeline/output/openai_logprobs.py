"""Log-probabilities as OpenAI's answers hold them, in their two forms."""

import codecs
import re
from collections.abc import Mapping, Sequence
from typing import Any

_LEAST = -9999.0  # JSON knows no infinity; OpenAI's least number
_PART = re.compile(r"bytes:((?:\\x[0-9a-f]{2})+)")

Logprobs = Mapping[str, Any]  # as the `logprobs` column of a batch holds them, see LogprobTail


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
