"""Schemas that refuse what they don't know."""

from typing import Any

Schema = Any  # JSON

_FREE = "x-kubernetes-preserve-unknown-fields"


def closed(schema: Schema) -> Schema:
    """`schema` with unknown fields refused wherever it lists the known ones."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    lists_fields = isinstance(schema.get("properties"), dict) and "type" in schema
    if lists_fields and not schema.get(_FREE):
        result.setdefault("additionalProperties", False)
    return result


def from_discovery(document: dict[str, Any], name: str) -> Schema:
    """Google's API discovery document as a closed JSON schema of its message `name`."""
    messages = {key: closed(_plain(value)) for key, value in document["schemas"].items()}
    return {"$ref": f"#/schemas/{name}", "schemas": messages}


def _plain(message: Schema) -> Schema:
    """A discovery message with only the keywords that JSON Schema has, meaning the same."""
    if isinstance(message, list):
        return [_plain(item) for item in message]
    if not isinstance(message, dict):
        return message
    if "$ref" in message:
        return {"$ref": f"#/schemas/{message['$ref']}"}
    kept = {}
    for key in message.keys() & {"type", "items", "enum", "additionalProperties"}:
        kept[key] = _plain(message[key])
    if "properties" in message:
        kept["properties"] = {name: _plain(of) for name, of in message["properties"].items()}
    return {} if kept.get("type") == "any" else kept
