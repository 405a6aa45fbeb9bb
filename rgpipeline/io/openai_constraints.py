"""What a request's answer must be, by OpenAI's and vLLM's names, as our `structured_outputs`."""

from collections.abc import Mapping
from typing import Any

from rgpipeline.errors import RowError

# vLLM's older names, each with ours.
_GUIDED = {
    "guided_json": "json",
    "guided_json_object": "json_object",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
}
CONSTRAINTS = {"response_format", *_GUIDED}


def constraint_of(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The `structured_outputs` that a request's body asks for by other names; None without any.

    Raises RowError naming the field that can't be followed, or two that contradict each other.
    """
    found: dict[str, dict[str, Any]] = {}
    if (asked := _response_format(body.get("response_format"))) is not None:
        found["response_format"] = asked
    for theirs, ours in _GUIDED.items():
        if body.get(theirs) not in (None, False):
            found[theirs] = {ours: body[theirs]}
    names = [*found, *(["structured_outputs"] if body.get("structured_outputs") else [])]
    if len(names) > 1:
        raise RowError(f"body.{names[0]} and body.{names[1]}: only one of them may be given")
    return next(iter(found.values()), None)


def _response_format(given: Any) -> dict[str, Any] | None:
    if given is None:
        return None
    kind = given.get("type") if isinstance(given, Mapping) else given
    if kind == "text":
        return None
    if kind == "json_object":
        return {"json_object": True}
    if kind != "json_schema" or not isinstance(given, Mapping):
        raise RowError(
            f"body.response_format: its type is text, json_object or json_schema; found {kind!r}"
        )
    described = given.get("json_schema")
    schema = described.get("schema") if isinstance(described, Mapping) else None
    if not isinstance(described, Mapping) or not isinstance(schema, Mapping):
        raise RowError("body.response_format.json_schema.schema: missing or not an object")
    if not isinstance(described.get("strict"), bool | None):  # followed exactly in any case
        raise RowError("body.response_format.json_schema.strict: true or false is expected")
    return {"json": schema}
