"""Chats to prompts: the Gemma turn template, or the checkpoint's own."""

import re
from collections.abc import Sequence
from typing import Self

from rgpipeline.errors import WeightsError
from rgpipeline.text.files import StorageOptions
from rgpipeline.text.jinja import JinjaTemplate, read_template
from rgpipeline.text.messages import Message, fold_system, parse_messages
from rgpipeline.text.tokenizer import Tokenizer

_TURN, _END = "<start_of_turn>", "<end_of_turn>"


class ChatTemplate:
    """Turns a row's `messages` into a prompt that ends where the model's turn begins.

    Without a template of the checkpoint's own, it is the official library's
    (`recurrentgemma.common.apply_it_formatter`), for any number of turns.
    """

    def __init__(self, tokenizer: Tokenizer, own: JinjaTemplate | None = None) -> None:
        """`own` is the checkpoint's template, None for Gemma's turns.

        Raises WeightsError when there is none and the tokenizer has no turn tokens.
        """
        if own is None and tokenizer.piece_to_id(_TURN) is None:
            raise WeightsError(
                f"the model was not made for chat: its tokenizer has no {_TURN} and its folder "
                f"no chat template; use a prompt column, or an instruction-tuned checkpoint"
            )
        self._tokenizer = tokenizer
        self._own = own
        end = tokenizer.piece_to_id(_END)
        self.stop_ids: tuple[int, ...] = () if end is None else (end,)

    @classmethod
    def load(
        cls, url: str, tokenizer: Tokenizer, storage_options: StorageOptions | None = None
    ) -> Self:
        """The template for the weights in the folder `url`: its own if it has one.

        Raises WeightsError when that template is faulty.
        """
        source = read_template(url, storage_options)
        if source is None:
            return cls(tokenizer)
        special = {
            "bos_token": tokenizer.piece(tokenizer.bos_id),
            "eos_token": tokenizer.piece(tokenizer.eos_id),
        }
        return cls(tokenizer, JinjaTemplate(source, url, special))

    def render(self, messages: object) -> str:
        """The prompt as text, for a person's eyes. Raises RowError naming message and field."""
        parsed = parse_messages(messages)
        return self._own.render(parsed) if self._own else _gemma_turns(parsed)

    def encode(self, messages: object) -> list[int]:
        """The prompt's token ids, with one BOS. Raises RowError naming message and field.

        BOS and EOS that the checkpoint's own template spells out become those tokens, as they
        do in transformers.
        """
        text = self.render(messages)
        if self._own is None:
            return self._tokenizer.encode(text)
        ids = _encode_spelled(self._tokenizer, text)
        bos = self._tokenizer.bos_id
        return ids if ids[:1] == [bos] else [bos, *ids]


def _gemma_turns(messages: Sequence[Message]) -> str:
    turns = [f"{_TURN}{role}\n{content}{_END}\n" for role, content in fold_system(messages)]
    return "".join([*turns, f"{_TURN}model\n"])


def _encode_spelled(tokenizer: Tokenizer, text: str) -> list[int]:
    special = {tokenizer.piece(index): index for index in (tokenizer.bos_id, tokenizer.eos_id)}
    ids: list[int] = []
    for part in re.split(f"({'|'.join(map(re.escape, special))})", text):
        ids += [special[part]] if part in special else tokenizer.encode(part, bos=False)
    return ids
