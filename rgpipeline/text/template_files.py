"""Finds the chat templates that a folder or a job has, and the tokens that they name.

transformers has kept templates in several places. Of those that a folder has, the first counts:
chat_template.jinja with additional_chat_templates/*.jinja, then tokenizer_config.json (one text,
or a list of named templates), then chat_template.json.
"""

from collections.abc import Mapping
from typing import Any

from rgpipeline.errors import WeightsError
from rgpipeline.spec import is_template_text
from rgpipeline.storage.filesystems import StorageOptions
from rgpipeline.storage.small_files import json_object, names_in, read_file, read_in
from rgpipeline.text.added_tokens import CONFIG, named_tokens
from rgpipeline.text.tokenizer import Tokenizer

DEFAULT, FOR_TOOLS = "default", "tool_use"  # names with a meaning, as in transformers
_FILE = "chat_template.jinja"
_MORE = "additional_chat_templates"
_OF_PROCESSOR = "chat_template.json"
_ENDING = ".jinja"

Templates = dict[str, str]  # the text of each template, by its name


def templates_in(folder: str, storage_options: StorageOptions | None) -> Templates:
    """The chat templates of a folder by name; a lone one is the default. Empty if it has none.

    Raises WeightsError when a file cannot be read.
    """
    found = _jinja_files(folder, storage_options)
    for name in () if found else (CONFIG, _OF_PROCESSOR):
        data = read_in(folder, name, storage_options)
        found = found or ({} if data is None else _of_json(data, f"{folder}/{name}"))
    return found


def given_templates(
    template: str, folders: tuple[str, ...], storage_options: StorageOptions | None
) -> Templates:
    """The templates that a job gives: a text, the address of a file or folder, or a name.

    A name is that of one of the templates in `folders`. Raises WeightsError if there are none.
    """
    if is_template_text(template):
        return {DEFAULT: template}
    known: Templates = {}
    for folder in folders if _may_be_name(template) else ():
        known = known or templates_in(folder, storage_options)
    if template in known:
        return {DEFAULT: known[template]}
    data = read_file(template, storage_options)
    if data is None:
        found = templates_in(template, storage_options)
    elif data.lstrip().startswith(b"{") and not data.lstrip().startswith((b"{{", b"{%", b"{#")):
        found = _of_json(data, template)
    else:
        found = {DEFAULT: data.decode("utf-8", "replace")}
    if not found:
        names = f"; the templates beside the weights are {', '.join(known)}" if known else ""
        raise WeightsError(
            f"{template}: no chat template there; give model.chat_template a template's file, a "
            f"folder with {_FILE} or {CONFIG}, or the template's own text{names}"
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
        for name in ("special_tokens_map.json", CONFIG):
            data = read_in(folder, name, storage_options)
            config = {} if data is None else json_object(data, f"{folder}/{name}")
            nulls = {role for role, token in config.items() if token is None}
            special = {role: token for role, token in special.items() if role not in nulls}
            special |= named_tokens(config)
            special |= _extra_tokens(config)
    return special


def _extra_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """The tokens that a model names itself: `"extra_special_tokens": {"image_token": "<image>"}`"""
    extra = config.get("extra_special_tokens")
    return named_tokens(extra) if isinstance(extra, Mapping) else {}


def _jinja_files(folder: str, storage_options: StorageOptions | None) -> Templates:
    more = sorted(n for n in names_in(folder, _MORE, storage_options) if n.endswith(_ENDING))
    files = {DEFAULT: _FILE} | {name.removesuffix(_ENDING): f"{_MORE}/{name}" for name in more}
    read = {name: read_in(folder, file, storage_options) for name, file in files.items()}
    return {
        name: data.decode("utf-8", "replace") for name, data in read.items() if data is not None
    }


def _may_be_name(template: str) -> bool:
    """Whether this can name a template, and not only a file or folder."""
    return not any(mark in template for mark in "/\\:.")


def _of_json(data: bytes, name: str) -> Templates:
    """The `chat_template` of a JSON file: one template, or a list or an object of named ones."""
    found = json_object(data, name).get("chat_template")
    try:
        if isinstance(found, list):
            found = {entry["name"]: entry["template"] for entry in found}
    except (KeyError, TypeError) as error:
        raise WeightsError(f"{name}: not as expected: {error}") from error
    if isinstance(found, Mapping):
        return {str(key): str(template) for key, template in found.items()}
    return {} if found is None else {DEFAULT: str(found)}
