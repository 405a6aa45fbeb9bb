"""JSON files that are one document rather than JSON Lines, told by their first line."""

import json

_WANTED = "not JSON Lines; a JSON object is expected on each line"
_ARRAY = f"a JSON array, {_WANTED}: `jq -c '.[]' FILE > prompts.jsonl` writes that"
_SPREAD = f"one JSON document over several lines, {_WANTED}: `jq -c` writes one"
_COMMAS = f"objects with commas between them, {_WANTED}, and no comma after it"


def document_fault(first: bytes, good: int, bad: int) -> str | None:
    """What the file is instead of JSON Lines; None where it may be them.

    Args:
      first: the first line that isn't blank, without white space around it.
      good, bad: how many lines are JSON objects, and how many aren't.
    """
    if _is_json(first):
        return _ARRAY if first.startswith(b"[") and not good else None
    if first.startswith(b"["):
        return _ARRAY
    if first == b"{":
        return _SPREAD
    if first.startswith(b"{") and good < bad:
        if first.endswith((b"{", b"[")):
            return _SPREAD
        if first.endswith(b",") and _is_json(first[:-1]):
            return _COMMAS
    return None


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
