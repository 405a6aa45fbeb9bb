"""Finding a chat template, and the names of the tokens it writes."""

import json
from collections.abc import Mapping
from typing import Any

from rgpipeline.errors import WeightsError
from rgpipeline.spec import is_template_text
from rgpipeline.storage.small_files import StorageOptions, read_file, read_in
from rgpipeline.text.added_tokens import named_tokens
from rgpipeline.text.tokenizer import Tokenizer

_FILE = "chat_template.jinja"
_CONFIG = "tokenizer_config.json"


def read_template(url: str, storage_options: StorageOptions | None) -> str | None:
    """The source of the chat template in the folder `url`, None when it has none.

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

    Raises WeightsError when nothing is there.
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
    """The tokens that templates know by name: bos_token, eos_token, unk_token, pad_token, …

    The tokenizer's own, and over them those of each folder's tokenizer_config.json.
    """
    ids = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "unk": tokenizer.unk_id}
    ids |= {} if tokenizer.pad_id is None else {"pad": tokenizer.pad_id}
    special = {f"{role}_token": tokenizer.piece(index) for role, index in ids.items()}
    for folder in folders:
        for name in ("special_tokens_map.json", _CONFIG):
            data = read_in(folder, name, storage_options)
            config = {} if data is None else _parse(data, f"{folder}/{name}")
            nulls = {role for role, token in config.items() if token is None}
            special = {role: token for role, token in special.items() if role not in nulls}
            special |= named_tokens(config)
    return special


def _of_config(data: bytes, name: str) -> str | None:
    try:
        found = _parse(data, name).get("chat_template")
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


def _parse(data: bytes, name: str) -> Mapping[str, Any]:
    try:
        found = json.loads(data)
    except ValueError as error:
        raise WeightsError(f"{name}: not as expected: {error}") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{name}: not as expected: it holds a {type(found).__name__}")
    return found
