"""The grammars of the bench, and the rows that have them."""

from typing import Any

import numpy as np

from bench.workloads import FIRST_TOKEN, SEED, Row

_PROMPT, _NEW = 16, 64  # tokens
_LABELS = ["positive", "negative", "neutral", "mixed", "unclear", "question", "spam", "other"]


def constraints(slots: int) -> dict[str, list[dict[str, Any]]]:
    """The `structured_outputs` of each row, for each kind of job."""
    return {
        "one schema": [{"json": _schema("")}] * slots,
        f"{slots} schemas": [{"json": _schema(f"_{index}")} for index in range(slots)],
        "choice of 8": [{"choice": _LABELS}] * (4 * slots),
    }


def constrained_rows(vocab: int, count: int) -> list[Row]:
    """Prompts of random tokens."""
    rng = np.random.default_rng(SEED)
    prompts = rng.integers(FIRST_TOKEN, vocab, (count, _PROMPT))
    return [Row(prompt.tolist(), _NEW) for prompt in prompts]


def _schema(suffix: str) -> dict[str, Any]:
    """A record of moderate size; other names make it another schema."""
    text = {"type": "string", "maxLength": 120}
    return {
        "type": "object",
        "properties": {
            f"name{suffix}": {"type": "string", "maxLength": 40},
            f"year{suffix}": {"type": "integer", "minimum": 0, "maximum": 3000},
            f"kind{suffix}": {"enum": ["person", "place", "work", "event"]},
            f"tags{suffix}": {"type": "array", "items": {"enum": _LABELS}, "maxItems": 5},
            f"summary{suffix}": text,
            f"sources{suffix}": {"type": "array", "items": text, "minItems": 1, "maxItems": 3},
        },
        "required": [f"{key}{suffix}" for key in ("name", "year", "kind", "tags", "summary")],
        "additionalProperties": False,
        "x-guidance": {"whitespace_flexible": False},
    }
