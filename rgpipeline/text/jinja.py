"""A checkpoint's own chat template, rendered in the same environment as in transformers."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

from rgpipeline.errors import RowError, WeightsError
from rgpipeline.text.chat_messages import (
    TOOL_KEYS,
    Message,
    fold_system,
    parse_messages,
    require_open_end,
    text_of,
)

_WORDS = ("Hello-7f3a", "there-9b1c")  # no template contains them
_PROBE: Message = {"role": "user", "content": _WORDS[0]}
_PARTS = [{"type": "text", "text": word} for word in _WORDS]
_USUAL_ROLES = {"model": "assistant", "developer": "system"}
_BY_VALUE = ("selectattr", "rejectattr")  # filters that compare


class JinjaTemplate:
    """Renders messages by a template that came with the weights, or with the job.

    As in transformers (`render_jinja_template`): an immutable sandbox, `trim_blocks` and
    `lstrip_blocks`, loop controls, `{% generation %}`, `raise_exception`, `strftime_now`, a
    `tojson` that keeps Unicode, the names of the special tokens, and messages with all their keys.
    The template decides which roles are allowed. Three things differ from transformers:

    - Roles "model" and "developer" become "assistant" and "system", unless the template compares
      a role with them itself.
    - A template that refuses system messages (Gemma's does) gets them folded into the first turn.
    - Content is passed as text or as a list of parts, whichever the template can render.
    """

    def __init__(self, source: str, name: str, special: Mapping[str, str], now: datetime) -> None:
        """`special` are tokens by the names that templates use, such as bos_token; `now` is the
        time that `strftime_now` formats, the same for all rows.

        Raises WeightsError when `source` cannot be parsed or does not render a plain question.
        """
        self._name = name
        self._special = dict(special)
        environment = _environment(now)
        try:
            tree = environment.parse(source)
            self._template = environment.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise WeightsError(
                f"{name}: the chat template has a fault in line {error.lineno}: {error.message}"
            ) from error
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

    def render(self, messages: object) -> str:
        """The prompt's text, open for the model's turn, of a row's messages.

        Raises RowError when they are no messages, or the template refuses them.
        """
        parsed = [
            {**message, "role": self._roles.get(message["role"], message["role"])}
            for message in parse_messages(messages, self._tool_keys)
        ]
        require_open_end(parsed)
        turns = parsed if self._knows_system else fold_system(parsed)
        return self._render([self._with_content(message) for message in turns])

    def _render(self, messages: Sequence[Message]) -> str:
        try:
            return self._template.render(
                messages=list(messages),
                add_generation_prompt=True,
                tools=None,
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
            self._render([_PROBE])
        except RowError as error:
            raise WeightsError(
                f"{self._name}: the chat template fails on a plain chat: {error}"
            ) from error

    def _shows(self, message: Message, words: Sequence[str]) -> bool:
        """Whether the prompt of a message has these words, not as a printed Python list."""
        try:
            prompt = self._render([message])
        except RowError:
            return False
        return all(word in prompt for word in words) and "'type'" not in prompt

    def _accepts(self, messages: Sequence[Message]) -> bool:
        try:
            self._render([self._with_content(message) for message in messages])
        except RowError:
            return False
        return True


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


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}`: marks the model's turns, for training only.

    As in transformers the block is the body of a macro: variables set in it are local.
    """

    tags = {"generation"}  # noqa: RUF012 - declared so by jinja2

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_content"), [], [], body).set_lineno(line)

    def _content(self, caller: Macro) -> str:
        return str(caller())


def _environment(now: datetime) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = now.strftime
    environment.filters["tojson"] = _to_json
    return environment


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
