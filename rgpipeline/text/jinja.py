"""A checkpoint's own chat template, run in the environment transformers gives it."""

import json
from collections.abc import Mapping, Sequence
from typing import NoReturn

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from rgpipeline.errors import RowError, WeightsError
from rgpipeline.text.files import StorageOptions, read_in
from rgpipeline.text.messages import Message, fold_system

_PROBE = Message("user", "Hello")


class JinjaTemplate:
    """Renders messages by a template that came with the weights.

    As in transformers (`render_jinja_template`): an immutable sandbox, `trim_blocks` and
    `lstrip_blocks`, loop controls, `raise_exception`, a `tojson` that keeps Unicode, and the
    names of the special tokens. There is no `strftime_now`: a prompt may not depend on the day.
    A template that refuses system messages (Gemma's does) gets them folded into the first turn.
    """

    def __init__(self, source: str, name: str, special: Mapping[str, str]) -> None:
        """`special` are the template's names of tokens, such as bos_token.

        Raises WeightsError when `source` cannot be parsed or does not render a plain question.
        """
        self._name = name
        self._special = dict(special)
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise WeightsError(
                f"{name}: the chat template has a fault in line {error.lineno}: {error.message}"
            ) from error
        try:
            self._render([_PROBE])
        except RowError as error:
            raise WeightsError(
                f"{name}: the chat template fails on a plain chat: {error}"
            ) from error
        self._knows_system = self._accepts([Message("system", "Be brief."), _PROBE])

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt's text, open for the model's turn. Raises RowError when it is refused."""
        return self._render(messages if self._knows_system else fold_system(messages))

    def _render(self, messages: Sequence[Message]) -> str:
        turns = [
            {"role": "assistant" if role == "model" else role, "content": content}
            for role, content in messages
        ]
        try:
            return self._template.render(
                messages=turns, add_generation_prompt=True, tools=None, **self._special
            )
        # The template is foreign code over a row's own data: it may fail in any way.
        except Exception as error:
            raise RowError(
                f"messages: refused by the chat template of {self._name}: {error}"
            ) from error

    def _accepts(self, messages: Sequence[Message]) -> bool:
        try:
            self._render(messages)
        except RowError:
            return False
        return True


def read_template(url: str, storage_options: StorageOptions | None) -> str | None:
    """The source of the chat template in the folder `url`, None when it has none.

    chat_template.jinja, else the one in tokenizer_config.json (of several, the "default").
    Raises WeightsError when tokenizer_config.json cannot be read.
    """
    source = read_in(url, "chat_template.jinja", storage_options)
    if source is not None:
        return source.decode("utf-8", "replace")
    config = read_in(url, "tokenizer_config.json", storage_options)
    if config is None:
        return None
    try:
        found = json.loads(config).get("chat_template")
        if isinstance(found, list):
            found = {entry["name"]: entry["template"] for entry in found}.get("default")
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise WeightsError(f"{url}/tokenizer_config.json: not as expected: {error}") from error
    return None if found is None else str(found)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.globals["raise_exception"] = _raise_exception
    environment.filters["tojson"] = _to_json
    return environment


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)
