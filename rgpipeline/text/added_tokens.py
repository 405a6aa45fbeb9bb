"""Tokens that a folder's other files add to its tokenizer.model.

transformers reads a tokenizer from several files. Fine-tuning scripts add tokens (`<|im_start|>`)
to `added_tokens.json`, `tokenizer_config.json` or `tokenizer.json`, and don't change
tokenizer.model, which alone would split such a token into several pieces of text. So a folder is
used only if its tokenizer.model has every token that the other files declare. Only tokens that
prompts don't need, such as padding, may be missing; a text that contains one is then refused.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import sentencepiece as spm

from rgpipeline.errors import WeightsError
from rgpipeline.storage.filesystems import StorageOptions
from rgpipeline.storage.small_files import json_object, read_in

_SPACE = "\u2581"  # how sentencepiece writes one
_SHOWN = 5
# A causal model does not use these.
_UNUSED_ROLES = ("pad_token", "mask_token", "cls_token", "sep_token")


class _Declared(NamedTuple):
    content: str
    id: int | None  # None if the file does not say
    takes_spaces: bool = False  # transformers strips the text beside it, or wants whole words


def missing_tokens(
    folder: str, model: spm.SentencePieceProcessor, storage_options: StorageOptions | None
) -> tuple[str, ...]:
    """The unused tokens (padding, mask) that the files of `folder` add to `model`.

    `model` is the folder's tokenizer.model. Raises WeightsError naming the file and the tokens when
    `model` lacks any other declared token, has it under another id or would not read it as one
    token; also when a file cannot be read.
    """
    unused: set[str] = set()
    unknown: dict[str, list[_Declared]] = {}
    for name, declared in _FILES.items():
        data = read_in(folder, name, storage_options)
        if data is None:
            continue
        found = json_object(data, f"{folder}/{name}")
        try:
            unused |= _unused(found) if declared is _of_config else set()
            tokens = list(dict.fromkeys(declared(found, model.vocab_size())))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise WeightsError(
                f"{folder}/{name}: not as transformers writes it: {error}"
            ) from error
        unknown[name] = [token for token in tokens if not _is_known(token, model)]
    for name, tokens in unknown.items():
        if used := [_spelled(token) for token in tokens if token.content not in unused]:
            raise WeightsError(_refusal(folder, name, used))
    return tuple(sorted({token.content for tokens in unknown.values() for token in tokens}))


def named_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """The tokens that a tokenizer_config.json gives a role (`eos_token`), by role."""
    named = {}
    for role, token in config.items():
        content = token.get("content") if isinstance(token, Mapping) else token
        if role.endswith("_token") and isinstance(content, str):
            named[role] = content
    return named


def _unused(config: Mapping[str, Any]) -> set[str]:
    named = named_tokens(config)
    used = {content for role, content in named.items() if role not in _UNUSED_ROLES}
    return {named[role] for role in _UNUSED_ROLES if role in named} - used


def _of_added(found: Any, size: int) -> Iterator[_Declared]:
    """added_tokens.json: {"<|im_start|>": 256000}"""
    for content, index in found.items():
        yield _Declared(content, int(index))


def _of_config(found: Any, size: int) -> Iterator[_Declared]:
    """tokenizer_config.json and special_tokens_map.json."""
    for index, token in (found.get("added_tokens_decoder") or {}).items():
        yield _Declared(token["content"], int(index), _takes_spaces(token))
    for content in named_tokens(found).values():
        yield _Declared(content, None)
    for role in ("additional_special_tokens", "extra_special_tokens"):
        more = found.get(role) or []
        for token in more.values() if isinstance(more, Mapping) else more:
            yield _Declared(token["content"] if isinstance(token, Mapping) else token, None)


def _of_tokenizer(found: Any, size: int) -> Iterator[_Declared]:
    """tokenizer.json: its added tokens, and the pieces that tokenizer.model lacks."""
    for token in found.get("added_tokens") or []:
        yield _Declared(token["content"], int(token["id"]), _takes_spaces(token))
    pieces = (found.get("model") or {}).get("vocab") or {}
    if isinstance(pieces, list):  # of a Unigram model: [piece, score] in the order of ids
        pieces = {piece: index for index, (piece, _) in enumerate(pieces)}
    for piece, index in pieces.items():
        if index >= size:
            yield _Declared(piece, index)


_FILES = {
    "added_tokens.json": _of_added,
    "tokenizer_config.json": _of_config,
    "special_tokens_map.json": _of_config,
    "tokenizer.json": _of_tokenizer,
}


def _takes_spaces(token: Mapping[str, Any]) -> bool:
    return any(token.get(flag) for flag in ("lstrip", "rstrip", "single_word"))


def _is_known(token: _Declared, model: spm.SentencePieceProcessor) -> bool:
    content = token.content.replace(" ", _SPACE)
    index = model.piece_to_id(content)
    if model.id_to_piece(index) != content or token.id not in (None, index):
        return False
    if model.is_control(index) or model.is_unknown(index):
        return True  # such symbols are never found in texts, see `Tokenizer`
    read = model.encode(token.content, out_type=str)
    return not token.takes_spaces and [piece for piece in read if piece != _SPACE] == [content]


def _spelled(token: _Declared) -> str:
    return repr(token.content) if token.id is None else f"{token.content!r} ({token.id})"


def _refusal(folder: str, name: str, unknown: list[str]) -> str:
    more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
    return (
        f"{folder}/{name}: declares tokens that tokenizer.model does not read as one token of that "
        f"id: {', '.join(unknown[:_SHOWN])}{more}. Tokens added to a tokenizer.model are not "
        f"supported yet. Use a tokenizer.model that has them; or, if no text of yours needs them, "
        f"name the file itself, {folder.rstrip('/')}/tokenizer.model, as model.tokenizer"
    )
