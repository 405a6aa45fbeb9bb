"""Chats to prompts: by the template of the job or the checkpoint, else by Gemma's turns."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cached_property
from typing import Self

from rgpipeline.errors import RowError, WeightsError
from rgpipeline.storage.filesystems import StorageOptions
from rgpipeline.text.chat_messages import TOOL_KEYS, as_turns, from_json, parse_messages
from rgpipeline.text.chat_tools import parse_tools
from rgpipeline.text.control_tokens import ControlTokens, encode_spelled, not_read, unused_mark
from rgpipeline.text.jinja import JinjaTemplate
from rgpipeline.text.template_files import (
    DEFAULT,
    FOR_TOOLS,
    given_templates,
    special_tokens,
    templates_in,
)
from rgpipeline.text.text_reader import TextReader
from rgpipeline.text.tokenizer import Tokenizer

_ANSWER = "\ue000answer\ue000"  # stands for an answer; no template has it
_TURN, _END = "<start_of_turn>", "<end_of_turn>"


class ChatTemplate:
    """Turns a row's `messages` into a prompt that ends where the model's turn begins.

    Without a template of its own, a checkpoint gets the official library's format
    (`recurrentgemma.common.apply_it_formatter`), for any number of turns.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        own: JinjaTemplate | None = None,
        for_tools: JinjaTemplate | None = None,
        reader: TextReader | None = None,
    ) -> None:
        """`own` is the checkpoint's template, None for Gemma's turns; `for_tools` the one for
        chats with tools, where it has two. `reader` says how control tokens in messages are read,
        and whether BOS is put first; default: as the tokenizer does, and yes.

        Raises WeightsError when there is none and the tokenizer has no turn tokens.
        """
        if own is None and tokenizer.piece_to_id(_TURN) is None:
            raise WeightsError(
                f"the model was not made for chat: its tokenizer has no {_TURN} and its folder "
                f"no chat template; use a prompt column, or an instruction-tuned checkpoint, or "
                f"give a template as model.chat_template"
            )
        self._reader = reader or TextReader(tokenizer)
        self._own, self._for_tools = own, for_tools or own
        end = tokenizer.piece_to_id(_END)
        self.stop_ids: tuple[int, ...] = () if end is None else (end,)
        self._spelled = not_read(tokenizer, self._read_here(tokenizer))

    def _read_here(self, tokenizer: Tokenizer) -> Iterable[str]:
        """Those that become tokens though the tokenizer may not look for them."""
        if self._reader.special_tokens == "parse":
            return tokenizer.control_tokens(self._written)
        ids = (tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id, tokenizer.pad_id)
        own = [tokenizer.piece(index) for index in ids if index is not None]
        return [_TURN, _END, *(own if self._own else ())]

    @property
    def _written(self) -> str:
        """The text of the templates, in which they spell control tokens."""
        templates = {self._own, self._for_tools} - {None}
        return "\0".join(template.source for template in templates if template is not None)

    @classmethod
    def load(
        cls,
        url: str,
        tokenizer: Tokenizer,
        storage_options: StorageOptions | None = None,
        *,
        template: str | None = None,
        tokenizer_url: str | None = None,
        now: datetime | None = None,
        reader: TextReader | None = None,
    ) -> Self:
        """The template for the weights in the folder `url`, with their `tokenizer`.

        The first that exists of: `template` (a template's text, or the address of its file), the
        one in `url`, the one in `tokenizer_url` (where the tokenizer is; default: `url`), Gemma's
        turns. `now` is the time that `strftime_now` formats; default: the current time. Raises
        WeightsError when the template is faulty, or there is none and the tokenizer has no turn
        tokens.
        """
        folders = tuple(dict.fromkeys((url, tokenizer_url or url)))
        name, found = url, {}
        if template is not None:
            found = given_templates(template, folders, storage_options)
            name = "model.chat_template" if template in found.values() else template
        for folder in folders:
            if not found:
                name, found = folder, templates_in(folder, storage_options)
        if not found:
            return cls(tokenizer, reader=reader)
        if DEFAULT not in found:
            raise WeightsError(
                f"{name}: has several chat templates ({', '.join(found)}) and no default; give the "
                f"one that is meant as model.chat_template"
            )
        special = special_tokens(tokenizer, folders, storage_options)
        now = now or datetime.now()
        own = JinjaTemplate(found[DEFAULT], name, special, now)
        if FOR_TOOLS not in found:
            return cls(tokenizer, own, reader=reader)
        source, name = found[FOR_TOOLS], f"{name} ({FOR_TOOLS})"
        return cls(tokenizer, own, JinjaTemplate(source, name, special, now), reader)

    def render(self, messages: object, tools: object = None) -> str:
        """The prompt as text. Raises RowError naming message and field."""
        given = parse_tools(tools)
        if self._own is None or self._for_tools is None:
            if given.names:
                raise RowError(
                    "tools: Gemma's turns have no place for tools; give a template that writes "
                    "them as model.chat_template, or remove them"
                )
            return _gemma_turns(messages)
        return (self._for_tools if given.names else self._own).render(messages, given)

    def encode(self, messages: object, tools: object = None) -> list[int]:
        """The prompt's token ids, with one BOS. Raises RowError naming message and field.

        `tools` are those that the model may call: a list of objects, or that as JSON text.

        Where the checkpoint's own template writes the BOS, EOS, unknown or padding token as text,
        it becomes that token, as in transformers. Gemma's turn tokens always do, also if the
        tokenizer would split them.
        """
        texts = self._texts(messages, tools)
        ids = encode_spelled(self._reader.tokenizer, texts, self._spelled)
        return self._reader.with_bos(ids)

    def _texts(self, messages: object, tools: object) -> list[str]:
        """The prompt, cut where its control tokens are not to be read."""
        if self._reader.special_tokens != "text":
            return [self.render(messages, tools)]
        return self._render_apart(messages, tools)

    def _render_apart(self, messages: object, tools: object) -> list[str]:
        """The prompt, cut where the messages or tools spell control tokens."""
        given = [from_json(messages, "messages"), from_json(tools, "tools")]
        mark = unused_mark(given, self._written)
        try:
            marked = self._control.marked(given, mark)
            return self.render(*marked).split(mark)
        except RowError as error:
            raise RowError(str(error).replace(mark, "")) from error

    @cached_property
    def _control(self) -> ControlTokens:
        return ControlTokens(self._reader.tokenizer.control_tokens(self._written))

    def encode_after(
        self, messages: object, tools: object = None, *, in_turn: bool = False
    ) -> list[int]:
        """The token ids of `messages` as they follow a text. Raises as `encode`.

        `in_turn`: the text is a chat that ends in the model's turn, which is closed first, as the
        template closes one.
        """
        texts = self._texts(messages, tools)  # also names faults by the messages' own numbers
        if in_turn:
            asked = {"role": "user", "content": "."}
            before = [asked, {"role": "assistant", "content": _ANSWER}]
            given = parse_messages(messages, TOOL_KEYS)
            texts = _after_answer(self._texts([*before, *given], tools))
        ids = encode_spelled(self._reader.tokenizer, ["", *texts], self._spelled)
        return ids[1:] if ids[:1] == [self._reader.tokenizer.bos_id] else ids


def _after_answer(texts: Sequence[str]) -> list[str]:
    """What follows the answer. Raises RowError if the template doesn't write it as it is."""
    found = [index for index, text in enumerate(texts) if _ANSWER in text]
    if len(found) != 1 or texts[found[0]].count(_ANSWER) != 1:
        raise RowError("the chat template changes answers, so a chat can't follow a state")
    return [texts[found[0]].partition(_ANSWER)[2], *texts[found[0] + 1 :]]


def _gemma_turns(messages: object) -> str:
    turns = as_turns(parse_messages(messages))
    written = [f"{_TURN}{role}\n{text}{_END}\n" for role, text in turns]
    return "".join([*written, f"{_TURN}model\n"])
