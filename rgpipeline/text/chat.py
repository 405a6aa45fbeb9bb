"""Chats to prompts: by the template of the job or the checkpoint, else by Gemma's turns."""

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Self

from rgpipeline.errors import WeightsError
from rgpipeline.spec import is_template_text
from rgpipeline.storage.filesystems import StorageOptions
from rgpipeline.storage.small_files import json_object, read_file, read_in
from rgpipeline.text.added_tokens import named_tokens
from rgpipeline.text.chat_messages import as_turns, parse_messages
from rgpipeline.text.jinja import JinjaTemplate
from rgpipeline.text.tokenizer import Tokenizer

_TURN, _END = "<start_of_turn>", "<end_of_turn>"


class ChatTemplate:
    """Turns a row's `messages` into a prompt that ends where the model's turn begins.

    Without a template of its own, a checkpoint gets the official library's format
    (`recurrentgemma.common.apply_it_formatter`), for any number of turns.
    """

    def __init__(self, tokenizer: Tokenizer, own: JinjaTemplate | None = None) -> None:
        """`own` is the checkpoint's template, None for Gemma's turns.

        Raises WeightsError when there is none and the tokenizer has no turn tokens.
        """
        if own is None and tokenizer.piece_to_id(_TURN) is None:
            raise WeightsError(
                f"the model was not made for chat: its tokenizer has no {_TURN} and its folder "
                f"no chat template; use a prompt column, or an instruction-tuned checkpoint, or "
                f"give a template as model.chat_template"
            )
        self._tokenizer = tokenizer
        self._own = own
        end = tokenizer.piece_to_id(_END)
        self.stop_ids: tuple[int, ...] = () if end is None else (end,)
        own_ids = (tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id, tokenizer.pad_id)
        special = (*(own_ids if own else ()), tokenizer.piece_to_id(_TURN), end)
        self._spelled = _not_read(tokenizer, special)

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
    ) -> Self:
        """The template for the weights in the folder `url`, with their `tokenizer`.

        The first that exists of: `template` (a template's text, or the address of its file), the
        one in `url`, the one in `tokenizer_url` (where the tokenizer is; default: `url`), Gemma's
        turns. `now` is the time that `strftime_now` formats; default: the current time. Raises
        WeightsError when the template is faulty, or there is none and the tokenizer has no turn
        tokens.
        """
        folders = tuple(dict.fromkeys((url, tokenizer_url or url)))
        name, source = url, None
        if template is not None:
            source = given_template(template, storage_options)
            name = "model.chat_template" if source == template else template
        for folder in folders:
            if source is None:
                name, source = folder, read_template(folder, storage_options)
        if source is None:
            return cls(tokenizer)
        special = special_tokens(tokenizer, folders, storage_options)
        return cls(tokenizer, JinjaTemplate(source, name, special, now or datetime.now()))

    def render(self, messages: object) -> str:
        """The prompt as text. Raises RowError naming message and field."""
        return self._own.render(messages) if self._own else _gemma_turns(messages)

    def encode(self, messages: object) -> list[int]:
        """The prompt's token ids, with one BOS. Raises RowError naming message and field.

        Where the checkpoint's own template writes the BOS, EOS, unknown or padding token as text,
        it becomes that token, as in transformers. Gemma's turn tokens always do, also if the
        tokenizer would split them.
        """
        ids = _encode_spelled(self._tokenizer, self.render(messages), self._spelled)
        bos = self._tokenizer.bos_id
        return ids if ids[:1] == [bos] else [bos, *ids]


def _gemma_turns(messages: object) -> str:
    turns = as_turns(parse_messages(messages))
    written = [f"{_TURN}{role}\n{text}{_END}\n" for role, text in turns]
    return "".join([*written, f"{_TURN}model\n"])


def _not_read(tokenizer: Tokenizer, special: Iterable[int | None]) -> dict[str, int]:
    """Those tokens that the tokenizer doesn't look for in a text, by how they are spelled.

    A tokenizer.model never reads its control tokens; conversions of Gemma's to a tokenizer.json
    have forgotten to declare the turn tokens.
    """
    spelled = {tokenizer.piece(index): index for index in special if index is not None}
    return {
        piece: index
        for piece, index in spelled.items()
        if index not in tokenizer.encode(piece, bos=False)
    }


def _encode_spelled(tokenizer: Tokenizer, text: str, special: dict[str, int]) -> list[int]:
    """The ids of `text`; what spells one of `special` becomes that token."""
    if not special:
        return tokenizer.encode(text, bos=False)
    ids: list[int] = []
    for part in re.split(f"({'|'.join(map(re.escape, special))})", text):
        ids += [special[part]] if part in special else tokenizer.encode(part, bos=False)
    return ids


_FILE = "chat_template.jinja"
_CONFIG = "tokenizer_config.json"


def read_template(url: str, storage_options: StorageOptions | None) -> str | None:
    """The source of the chat template in the folder `url`, None if it has none.

    chat_template.jinja, else the one in tokenizer_config.json (of several, the "default").
    Raises WeightsError when tokenizer_config.json cannot be read, or has several templates and
    none of them is the default.
    """
    source = read_in(url, _FILE, storage_options)
    if source is not None:
        return source.decode("utf-8", "replace")
    config = read_in(url, _CONFIG, storage_options)
    return None if config is None else _of_config(config, f"{url}/{_CONFIG}")


def given_template(template: str, storage_options: StorageOptions | None) -> str:
    """The source of the template that a job gives: its text, or the file or folder it is in.

    Raises WeightsError if there is no such file.
    """
    if is_template_text(template):
        return template
    data = read_file(template, storage_options)
    if data is None:
        found = read_template(template, storage_options)
    elif data.lstrip().startswith(b"{") and not data.lstrip().startswith((b"{{", b"{%", b"{#")):
        found = _of_config(data, template)
    else:
        found = data.decode("utf-8", "replace")
    if found is None:
        raise WeightsError(
            f"{template}: no chat template there; give model.chat_template a template's file, a "
            f"folder with {_FILE} or {_CONFIG}, or the template's own text"
        )
    return found


def special_tokens(
    tokenizer: Tokenizer, folders: tuple[str, ...], storage_options: StorageOptions | None
) -> dict[str, str]:
    """The tokens that templates refer to by name: bos_token, eos_token, unk_token, pad_token, …

    Those in each folder's tokenizer_config.json override the tokenizer's own.
    """
    ids = {
        "bos": tokenizer.bos_id,
        "eos": tokenizer.eos_id,
        "unk": tokenizer.unk_id,
        "pad": tokenizer.pad_id,
    }
    special = {
        f"{role}_token": tokenizer.piece(index) for role, index in ids.items() if index is not None
    }
    for folder in folders:
        for name in ("special_tokens_map.json", _CONFIG):
            data = read_in(folder, name, storage_options)
            config = {} if data is None else json_object(data, f"{folder}/{name}")
            nulls = {role for role, token in config.items() if token is None}
            special = {role: token for role, token in special.items() if role not in nulls}
            special |= named_tokens(config)
    return special


def _of_config(data: bytes, name: str) -> str | None:
    try:
        found = json_object(data, name).get("chat_template")
        if isinstance(found, list):
            found = {entry["name"]: entry["template"] for entry in found}
    except (AttributeError, KeyError, TypeError) as error:
        raise WeightsError(f"{name}: not as expected: {error}") from error
    if isinstance(found, dict):
        if "default" not in found:
            raise WeightsError(
                f"{name}: has several chat templates ({', '.join(found)}) and no default; give the "
                f"one that is meant as model.chat_template"
            )
        found = found["default"]
    return None if found is None else str(found)
