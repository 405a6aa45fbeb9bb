"""Chat messages of a row, parsed and checked."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rgpipeline.errors import RowError

Message = dict[str, Any]  # role, content, and any other keys of the row, as in transformers

_TURNS = {  # the roles of Gemma's turns, by the names that people use for them
    "system": "system",
    "developer": "system",
    "user": "user",
    "model": "model",
    "assistant": "model",
}
TOOL_KEYS = ("tool_calls", "tool_call_id", "function_call")  # they would change the prompt


def parse_messages(value: object, allowed: Collection[str] = ()) -> list[Message]:
    """The chat in a row's `messages`: a list of {"role", "content"}, or the same as JSON text.

    `content` is text or OpenAI's list of {"type": "text", "text"} parts. Keys whose value is null
    are dropped. Of `TOOL_KEYS`, only those in `allowed` may have a value. The roles and their order
    are not checked here. Raises RowError naming message and field.
    """
    value = from_json(value, "messages")
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise RowError(f"messages: a list of messages is expected, found {_kind(value)}")
    if not value:
        raise RowError("messages: the list is empty; at least one user message is needed")
    return [_parse(item, f"messages[{index}]", allowed) for index, item in enumerate(value)]


def from_json(value: object, where: str) -> object:
    """What a JSON text holds, an empty text nothing; any other value as it is. Raises RowError."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.strip() else None
    except (ValueError, RecursionError) as error:
        raise RowError(f"{where}: text that is not JSON ({error})") from error


def text_of(message: Message) -> str:
    """A message's content as one text: the parts of a list are joined."""
    content = message.get("content", "")
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def as_turns(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """Gemma's turns, (role, text) each: user and model in alternation.

    At most one system message, at the beginning; then user and model by turns, user first and
    last. Other keys (a name, metadata) are ignored. Raises RowError.
    """
    named: list[Message] = []
    for index, message in enumerate(messages):
        role = message["role"]
        if role not in _TURNS:
            raise RowError(
                f"messages[{index}].role: {role!r} is not user, assistant (or model) or system "
                f"(or developer)"
            )
        named.append({**message, "role": _TURNS[role]})
    _require_turns([message["role"] for message in named])
    return [(message["role"], text_of(message)) for message in fold_system(named)]


def fold_system(messages: Sequence[Message]) -> list[Message]:
    """A leading system message put before the first user's text, with a blank line between.

    Gemma knows no system turn; this is how Google's own templates (Gemma 3) write one.
    """
    if len(messages) < 2 or [m["role"] for m in messages[:2]] != ["system", "user"]:
        return list(messages)
    system, user, *rest = messages
    return [{**user, "content": f"{text_of(system)}\n\n{text_of(user)}"}, *rest]


def require_open_end(messages: Sequence[Message]) -> None:
    """Raises RowError when the last message is the model's: it has nothing to answer."""
    if messages[-1]["role"] in ("assistant", "model"):
        raise RowError(
            f"messages[{len(messages) - 1}].role: the last message must be the user's, "
            f"for the model to answer"
        )


def _parse(item: object, where: str, allowed: Collection[str]) -> Message:
    if not isinstance(item, Mapping):
        raise RowError(f"{where}: an object with role and content is expected, found {_kind(item)}")
    message = {str(key): value for key, value in item.items() if value is not None}
    role = message.get("role")
    if role is None:
        raise RowError(f"{where}.role: missing; use user, assistant (or model) or system")
    if not isinstance(role, str):
        raise RowError(f"{where}.role: {role!r} is not user, assistant (or model) or system")
    for key in TOOL_KEYS:
        if message.get(key) and key not in allowed:
            raise RowError(
                f"{where}.{key}: the chat template doesn't write them; give one that does as "
                f"model.chat_template"
            )
    if not message.get("tool_calls") or "content" in message:
        _require_text(message.get("content"), f"{where}.content")
    return message


def _require_text(content: object, where: str) -> None:
    if isinstance(content, str):
        return
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        raise RowError(f"{where}: text is expected, found {_kind(content)}")
    for index, part in enumerate(content):
        text = part.get("text") if isinstance(part, Mapping) else None
        if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(text, str):
            raise RowError(
                f'{where}[{index}]: only parts {{"type": "text", "text": …}} can be read'
            )


def _require_turns(roles: Sequence[str]) -> None:
    first = 1 if roles[0] == "system" else 0
    for index, role in enumerate(roles[first:], start=first):
        if role == "system":
            raise RowError(f"messages[{index}].role: a system message may only come first")
        expected = "user" if (index - first) % 2 == 0 else "model"
        if role != expected:
            raise RowError(
                f"messages[{index}].role: {role!r} where {expected!r} is due; after a "
                f"system message, user and assistant take turns, user first"
            )
    if roles[-1] != "user":
        raise RowError(
            f"messages[{len(roles) - 1}].role: the last message must be the user's, "
            f"for the model to answer"
        )


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__
