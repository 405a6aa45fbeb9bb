"""Chat messages as rows carry them, checked."""

import json
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from rgpipeline.errors import RowError

Role = Literal["system", "user", "model"]

_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "model": "model",
    "assistant": "model",
}
_UNSUPPORTED = ("tool_calls", "tool_call_id", "function_call")  # they would change the prompt


class Message(NamedTuple):
    """One turn of a chat; OpenAI's role "assistant" is Gemma's "model"."""

    role: Role
    content: str


def parse_messages(value: object) -> list[Message]:
    """The chat in a row's `messages`: a list of {"role", "content"}, or the same as JSON text.

    `content` is text or OpenAI's list of {"type": "text", "text"} parts, which are joined. At
    most one system message, at the beginning; then user and model by turns, user first and last.
    Other keys (a name, metadata) have no place in the prompt and are left out; tool calls are
    refused. Raises RowError naming message and field.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise RowError(f"messages: text that is not JSON ({error})") from error
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise RowError(f"messages: a list of messages is expected, found {_kind(value)}")
    if not value:
        raise RowError("messages: the list is empty; at least one user message is needed")
    messages = [_parse_message(item, f"messages[{index}]") for index, item in enumerate(value)]
    _require_turns(messages)
    return messages


def fold_system(messages: Sequence[Message]) -> list[Message]:
    """A leading system message put before the first user's text, with a blank line between.

    Gemma knows no system turn; this is how Google's own templates (Gemma 3) write one.
    """
    if messages[0].role != "system":
        return list(messages)
    system, user, *rest = messages
    return [Message("user", f"{system.content}\n\n{user.content}"), *rest]


def _parse_message(item: object, where: str) -> Message:
    if not isinstance(item, Mapping):
        raise RowError(f"{where}: an object with role and content is expected, found {_kind(item)}")
    role = item.get("role")
    if role is None:
        raise RowError(f"{where}.role: missing; use user, assistant (or model) or system")
    if not isinstance(role, str) or role not in _ROLES:
        raise RowError(f"{where}.role: {role!r} is not user, assistant (or model) or system")
    for key in _UNSUPPORTED:
        if item.get(key):
            raise RowError(f"{where}.{key}: tools are not supported by this model family")
    return Message(_ROLES[role], _parse_content(item.get("content"), f"{where}.content"))


def _parse_content(content: object, where: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        raise RowError(f"{where}: text is expected, found {_kind(content)}")
    texts = []
    for index, part in enumerate(content):
        text = part.get("text") if isinstance(part, Mapping) else None
        if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(text, str):
            raise RowError(
                f'{where}[{index}]: only parts {{"type": "text", "text": …}} can be read'
            )
        texts.append(text)
    return "".join(texts)


def _require_turns(messages: Sequence[Message]) -> None:
    first = 1 if messages[0].role == "system" else 0
    for index, message in enumerate(messages[first:], start=first):
        if message.role == "system":
            raise RowError(f"messages[{index}].role: a system message may only come first")
        expected = "user" if (index - first) % 2 == 0 else "model"
        if message.role != expected:
            raise RowError(
                f"messages[{index}].role: {message.role!r} where {expected!r} is due; after a "
                f"system message, user and assistant take turns, user first"
            )
    if messages[-1].role != "user":
        raise RowError(
            f"messages[{len(messages) - 1}].role: the last message must be the user's, "
            f"for the model to answer"
        )


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__
