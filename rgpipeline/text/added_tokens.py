"""Tokens that a folder's files declare, beside its tokenizer.model or tokenizer.json.

transformers reads a tokenizer from several files. Fine-tuning scripts add tokens (`<|im_start|>`)
to `added_tokens.json`, `tokenizer_config.json` or `tokenizer.json`, and don't change
tokenizer.model, which alone would split such a token into several pieces of text. So a
tokenizer.model is used only if it has every token that the other files declare. Only tokens that
prompts don't need, such as padding, may be missing; a text that contains one is then refused.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from rgpipeline.errors import WeightsError
from rgpipeline.storage.filesystems import StorageOptions
from rgpipeline.storage.small_files import json_object, read_in
from rgpipeline.text.long_text import SPACE
from rgpipeline.text.sentencepiece_model import SentencePieceModel

MODEL, JSON, CONFIG = "tokenizer.model", "tokenizer.json", "tokenizer_config.json"
_SHOWN = 5
# A causal model does not use these.
_UNUSED_ROLES = ("pad_token", "mask_token", "cls_token", "sep_token")
_FLAGS = ("lstrip", "rstrip", "single_word", "normalized", "special")


class Declared(NamedTuple):
    """A token that a file declares."""

    content: str
    id: int | None = None  # None if the file does not say
    flags: frozenset[str] = frozenset()  # those of transformers' AddedToken that are set


class JsonFile(NamedTuple):
    """A tokenizer.json."""

    name: str
    data: bytes
    spec: Mapping[str, Any]  # what `data` holds

    def by_id(self) -> dict[int, str]:
        """Every token of the file. Raises WeightsError if it isn't as transformers writes it."""
        try:
            tokens = {index: piece for piece, index in _pieces(self.spec).items()}
            added = self.spec.get("added_tokens") or []
            return tokens | {int(token["id"]): token["content"] for token in added}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise WeightsError(f"{self.name}: not as transformers writes it: {error}") from error


class DeclaredTokens:
    """The tokens that the files of a folder declare, each file read once."""

    def __init__(
        self,
        folder: str,
        storage_options: StorageOptions | None,
        names: tuple[str, ...] | None = None,
    ) -> None:
        """Reads the files `names` in `folder`; default: all that declare tokens.

        Raises WeightsError naming a file that isn't a JSON object.
        """
        self.folder = folder
        self._found: dict[str, dict[str, Any]] = {}
        self.json: JsonFile | None = None  # the tokenizer.json, if there is one
        for name in names or tuple(_FILES):
            data = read_in(folder, name, storage_options)
            if data is not None:
                self._found[name] = json_object(data, f"{folder}/{name}")
            if data is not None and name == JSON:
                self.json = JsonFile(f"{folder.rstrip('/')}/{name}", data, self._found[name])

    def of(self, name: str, size: int = 0) -> list[Declared]:
        """Those in the file `name`, in its order; of a vocabulary only those from id `size` on.

        Raises WeightsError if the file isn't as transformers writes it.
        """
        if name not in self._found:
            return []
        try:
            return list(dict.fromkeys(_FILES[name](self._found[name], size)))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise WeightsError(
                f"{self.folder}/{name}: not as transformers writes it: {error}"
            ) from error

    def beside_json(self) -> list[Declared]:
        """The used tokens that other files than the tokenizer.json declare."""
        unused = unused_tokens(self.named())
        tokens = [token for name in _FILES if name != JSON for token in self.of(name)]
        return [token for token in tokens if token.content not in unused]

    def named(self) -> dict[str, str]:
        """The tokens that have a role, by role."""
        configs = [self._found.get(name, {}) for name in ("special_tokens_map.json", CONFIG)]
        return {role: token for found in configs for role, token in named_tokens(found).items()}

    def special(self) -> frozenset[str]:
        """The tokens that any file calls special, or gives a role."""
        tokens = [token for name in self._found for token in self.of(name)]
        return frozenset(token.content for token in tokens if "special" in token.flags)

    def unread_by(self, model: SentencePieceModel) -> dict[str, list[Declared]]:
        """The tokens that `model` lacks or doesn't read as one token of that id, by file."""
        declared = {name: self.of(name, model.vocab_size) for name in self._found}
        unread = {
            name: [token for token in tokens if not _is_known(token, model)]
            for name, tokens in declared.items()
        }
        return {name: tokens for name, tokens in unread.items() if tokens}

    def missing_from(self, model: SentencePieceModel) -> tuple[str, ...]:
        """The unused tokens (padding, mask) that the files add to `model`.

        `model` is the folder's tokenizer.model. Raises WeightsError naming the file and the tokens
        when it doesn't read any other declared token.
        """
        unused, unread = unused_tokens(self.named()), self.unread_by(model)
        for name, tokens in unread.items():
            if used := [_spelled(token) for token in tokens if token.content not in unused]:
                raise WeightsError(_refusal(self.folder, name, used))
        return tuple(sorted({token.content for tokens in unread.values() for token in tokens}))


def named_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """The tokens that a tokenizer_config.json gives a role (`eos_token`), by role."""
    named = {}
    for role, token in config.items():
        content = token.get("content") if isinstance(token, Mapping) else token
        if role.endswith("_token") and isinstance(content, str):
            named[role] = content
    return named


def unused_tokens(named: Mapping[str, str]) -> set[str]:
    """The tokens that only have roles which a causal model does not use."""
    used = {content for role, content in named.items() if role not in _UNUSED_ROLES}
    return {named[role] for role in _UNUSED_ROLES if role in named} - used


def _of_added(found: Any, size: int) -> Iterator[Declared]:
    """added_tokens.json: {"<|im_start|>": 256000}"""
    for content, index in found.items():
        yield Declared(content, int(index))


def _of_config(found: Any, size: int) -> Iterator[Declared]:
    """tokenizer_config.json and special_tokens_map.json."""
    for index, token in (found.get("added_tokens_decoder") or {}).items():
        yield Declared(token["content"], int(index), _flags(token))
    special = frozenset({"special"})
    for content in named_tokens(found).values():
        yield Declared(content, None, special)
    for role in ("additional_special_tokens", "extra_special_tokens"):
        more = found.get(role) or []
        for token in more.values() if isinstance(more, Mapping) else more:
            content = token["content"] if isinstance(token, Mapping) else token
            yield Declared(content, None, special)


def _of_tokenizer(found: Any, size: int) -> Iterator[Declared]:
    """tokenizer.json: its added tokens, and the pieces that tokenizer.model lacks."""
    for token in found.get("added_tokens") or []:
        yield Declared(token["content"], int(token["id"]), _flags(token))
    for piece, index in _pieces(found).items():
        if index >= size:
            yield Declared(piece, index)


def _pieces(spec: Any) -> Mapping[str, int]:
    """The vocabulary of a tokenizer.json, without added tokens."""
    pieces: Any = (spec.get("model") or {}).get("vocab") or {}
    if isinstance(pieces, list):  # of a Unigram model: [piece, score] in the order of ids
        return {piece: index for index, (piece, _) in enumerate(pieces)}
    return dict(pieces)


_FILES: dict[str, Callable[[Any, int], Iterator[Declared]]] = {
    "added_tokens.json": _of_added,
    CONFIG: _of_config,
    "special_tokens_map.json": _of_config,
    JSON: _of_tokenizer,
}


def _flags(token: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(flag for flag in _FLAGS if token.get(flag))


def _is_known(token: Declared, model: SentencePieceModel) -> bool:
    content = token.content.replace(" ", SPACE)
    index = model.piece_to_id(content)
    if index is None or token.id not in (None, index):
        return False
    if model.is_control(index) or index == model.unk_id:
        return True  # such symbols are never found in texts, see `SentencePieceModel`
    if token.flags & {"lstrip", "rstrip", "single_word"}:
        return False  # transformers strips the text beside it, or wants whole words
    read = [model.piece(found) for found in model.encode(token.content)]
    return [piece for piece in read if piece != SPACE] == [content]


def _spelled(token: Declared) -> str:
    return repr(token.content) if token.id is None else f"{token.content!r} ({token.id})"


def _refusal(folder: str, name: str, unknown: list[str]) -> str:
    more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
    return (
        f"{folder}/{name}: declares tokens that tokenizer.model does not read as one token of that "
        f"id: {', '.join(unknown[:_SHOWN])}{more}. Use a tokenizer.model that has them, or put "
        f"the checkpoint's whole tokenizer.json there; or, if no text of yours needs them, name "
        f"the file itself, {folder.rstrip('/')}/tokenizer.model, as model.tokenizer"
    )
