"""Tools that a chat's model may call, parsed and checked."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rgpipeline.errors import RowError
from rgpipeline.text.chat_messages import from_json
from rgpipeline.wording import kind_of


class Tools(NamedTuple):
    """A chat's tools, as its template gets them."""

    given: tuple[Mapping[str, Any], ...] | None
    names: tuple[str, ...] = ()  # of the functions


NO_TOOLS = Tools(None)


def parse_tools(value: object) -> Tools:
    """The tools in a row's `tools`: a list of objects, or the same as JSON text.

    Each is a function's JSON schema, as OpenAI's `{"type": "function", "function": {"name", …}}`,
    or the inner object alone. A null and an empty list are no tools. Raises RowError naming tool
    and field.
    """
    value = from_json(value, "tools")
    if value is None:
        return NO_TOOLS
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise RowError(f"tools: a list of tools is expected, found {kind_of(value)}")
    names = tuple(_name(tool, f"tools[{index}]") for index, tool in enumerate(value))
    return Tools(tuple(value), names) if names else NO_TOOLS


def _name(tool: object, where: str) -> str:
    function = tool.get("function", tool) if isinstance(tool, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str) or not name:
        raise RowError(
            f'{where}: an object {{"type": "function", "function": {{"name": …}}}} is expected'
        )
    return name
