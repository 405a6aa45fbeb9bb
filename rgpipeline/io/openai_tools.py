"""Tools in requests to /v1/chat/completions."""

import json
from collections.abc import Mapping
from typing import Any

from rgpipeline.errors import RowError


def offered_tools(body: Mapping[str, Any]) -> list[Any] | None:
    """The tools that a chat's template gets; None where the model may call none.

    Raises RowError naming the field at fault.
    """
    tools = body.get("tools")
    if not isinstance(tools, list | None):
        raise RowError(f"body.tools: a list is expected, found {type(tools).__name__}")
    if not tools or body.get("tool_choice") == "none":
        return None
    if body.get("parallel_tool_calls") is False:
        raise RowError(
            "body.parallel_tool_calls: false is not supported with tools, for a model may write "
            "several calls; remove it"
        )
    return tools


def with_parsed_arguments(message: Any, where: str) -> Any:
    """A message whose calls have their arguments as objects, which is what templates write.

    OpenAI's requests have them as JSON text. Raises RowError naming the call at fault; anything
    else that is wrong with the message is left for whoever renders it.
    """
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    if not isinstance(calls, list):
        return message
    parsed = [_parsed(call, f"{where}.tool_calls[{i}]") for i, call in enumerate(calls)]
    return {**message, "tool_calls": parsed}


def _parsed(call: Any, where: str) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(text := function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        raise RowError(f"{where}.function.arguments: not JSON ({error})") from error
    if not isinstance(arguments, dict):
        raise RowError(f"{where}.function.arguments: JSON of an object is expected")
    return {**call, "function": {**function, "arguments": arguments}}
