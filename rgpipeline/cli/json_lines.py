"""Values as strict JSON, in whatever encoding stdout has."""

import base64
import json
import math
import sys
from collections.abc import Mapping
from typing import Any


def json_line(value: Mapping[str, Any]) -> str:
    """One line of JSON that every parser reads, and that stdout can show.

    NaN and the infinities, which JSON lacks, are null; bytes are base64; what else JSON lacks
    (dates, decimals, UUIDs) is its text. Characters that stdout's encoding lacks are escaped.
    """
    line = json.dumps(_plain(value), ensure_ascii=False, default=str, allow_nan=False)
    try:
        line.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(_plain(value), default=str, allow_nan=False)
    return line


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {_key(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


def _key(key: Any) -> str:
    return key if isinstance(key, str) else str(_plain(key))
