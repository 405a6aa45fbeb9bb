"""A checkpoint's own chat template, rendered in the same environment as in transformers."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes

from rgpipeline.errors import RowError, WeightsError
from rgpipeline.text.chat_messages import (
    TOOL_KEYS,
    Message,
    fold_system,
    parse_messages,
    require_open_end,
    text_of,
)
from rgpipeline.text.chat_tools import NO_TOOLS, Tools
from rgpipeline.text.jinja_environment import chat_environment

_WORDS = ("Hello-7f3a", "there-9b1c")  # no template contains them
_PROBE: Message = {"role": "user", "content": _WORDS[0]}
_PARTS = [{"type": "text", "text": word} for word in _WORDS]
_TOOL = {"name": "get_time", "description": "Tells the time.", "parameters": {"type": "object"}}
_TOOLS = Tools(({"type": "function", "function": _TOOL},), ("get_time",))
_REASONING = ("reasoning_content", "thinking", "reasoning")  # one thing by three names
_USUAL_ROLES = {"model": "assistant", "developer": "system"}
_BY_VALUE = ("selectattr", "rejectattr")  # filters that compare


class JinjaTemplate:
    """Renders messages by a template that came with the weights, or with the job.

    As in transformers (`render_jinja_template`): an immutable sandbox, `trim_blocks` and
    `lstrip_blocks`, loop controls, `{% generation %}`, `raise_exception`, `strftime_now`, a
    `tojson` that keeps Unicode, the names of the special tokens, messages with all their keys, and
    tools. The template decides which roles are allowed. These things differ from transformers:

    - Roles "model" and "developer" become "assistant" and "system", unless the template compares
      a role with them itself.
    - A template that refuses system messages (Gemma's does) gets them folded into the first turn.
    - Content is passed as text or as a list of parts, whichever the template can render.
    - Tools that the template would drop are an error.
    """

    def __init__(self, source: str, name: str, special: Mapping[str, str], now: datetime) -> None:
        """`special` are tokens by the names that templates use, such as bos_token; `now` is the
        time that `strftime_now` formats, the same for all rows.

        Raises WeightsError when `source` cannot be parsed, or renders no plain question, neither
        with tools nor without.
        """
        self._name, self.source = name, source
        self._special = dict(special)
        environment = chat_environment(now)
        try:
            tree = environment.parse(source)
            self._template = environment.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise WeightsError(
                f"{name}: the chat template has a fault in line {error.lineno}: {error.message}"
            ) from error
        self._reads_tools = any(
            found.name == "tools" and found.ctx == "load" for found in tree.find_all(nodes.Name)
        )
        self._tried_with = _TOOLS if self._requires_tools() else NO_TOOLS
        compared = set(_compared(tree))
        self._roles = {old: new for old, new in _USUAL_ROLES.items() if old not in compared}
        # Few templates write a call's id, which may be left out; a call may not.
        self._tool_keys = [key for key in TOOL_KEYS if key in source or key == "tool_call_id"]
        self._writes_parts = self._shows({**_PROBE, "content": _PARTS}, _WORDS)
        if self._writes_parts and not self._shows(_PROBE, _WORDS[:1]):
            self._text_as_parts = True
        else:
            self._text_as_parts = False
            self._require_works()
        self._knows_system = self._accepts([{"role": "system", "content": "Be brief."}, _PROBE])

    def render(self, messages: object, tools: Tools = NO_TOOLS) -> str:
        """The prompt's text, open for the model's turn, of a row's messages.

        Raises RowError when they are no messages, or the template refuses them or drops the tools.
        """
        parsed = [
            {**message, "role": self._roles.get(message["role"], message["role"])}
            for message in parse_messages(messages, self._tool_keys)
        ]
        require_open_end(parsed)
        turns = parsed if self._knows_system else fold_system(parsed)
        prompt = self._render([self._with_content(message) for message in turns], tools)
        if tools.names and not (self._reads_tools and any(n in prompt for n in tools.names)):
            raise RowError(
                f"tools: the chat template of {self._name} doesn't write tools; give one that does "
                f"as model.chat_template, or remove them"
            )
        return prompt

    def _render(self, messages: Sequence[Message], tools: Tools) -> str:
        try:
            return self._template.render(
                messages=[_with_reasoning(message) for message in messages],
                add_generation_prompt=True,
                tools=None if tools.given is None else list(tools.given),
                documents=None,
                **self._special,
            )
        # The template is other people's code, and may raise anything.
        except Exception as error:
            raise RowError(
                f"messages: refused by the chat template of {self._name}: {error}"
            ) from error

    def _with_content(self, message: Message) -> Message:
        """The message with its content in a form that the template can render."""
        content = message.get("content")
        if isinstance(content, str):
            if self._text_as_parts:
                return {**message, "content": [{"type": "text", "text": content}]}
        elif content is not None and not self._writes_parts:
            return {**message, "content": text_of(message)}
        return message

    def _require_works(self) -> None:
        try:
            self._render([_PROBE], self._tried_with)
        except RowError as error:
            raise WeightsError(
                f"{self._name}: the chat template fails on a plain chat: {error}"
            ) from error

    def _requires_tools(self) -> bool:
        """Whether the template renders only chats with tools."""
        asked = [[_PROBE], [{**_PROBE, "content": _PARTS}]]
        plain, with_tools = (
            any(self._renders(messages, tools) for messages in asked)
            for tools in (NO_TOOLS, _TOOLS)
        )
        return self._reads_tools and with_tools and not plain

    def _renders(self, messages: Sequence[Message], tools: Tools) -> bool:
        try:
            self._render(messages, tools)
        except RowError:
            return False
        return True

    def _shows(self, message: Message, words: Sequence[str]) -> bool:
        """Whether the prompt of a message has these words, not as a printed Python list."""
        try:
            prompt = self._render([message], self._tried_with)
        except RowError:
            return False
        return all(word in prompt for word in words) and "'type'" not in prompt

    def _accepts(self, messages: Sequence[Message]) -> bool:
        return self._renders([self._with_content(m) for m in messages], self._tried_with)


def _with_reasoning(message: Message) -> Message:
    """The message with its reasoning under the names that templates read, as in transformers."""
    found = next((message[key] for key in _REASONING if message.get(key) is not None), None)
    if found is None:
        return message
    return {"thinking": found, **message, "reasoning_content": found}


def _compared(tree: nodes.Template) -> Iterator[Any]:
    """The constants that the template compares something with, or looks up in a table."""
    for compare in tree.find_all((nodes.Compare, nodes.Test)):
        yield from (constant.value for constant in compare.find_all(nodes.Const))
    for pair in tree.find_all(nodes.Pair):
        yield from (
            constant.value
            for constant in (pair.key, *pair.key.find_all(nodes.Const))
            if isinstance(constant, nodes.Const)
        )
    for filter in tree.find_all(nodes.Filter):
        if filter.name in _BY_VALUE:
            yield from (
                argument.value for argument in filter.args if isinstance(argument, nodes.Const)
            )
