"""Which of a folder's files its tokenizer is read from."""

from typing import NamedTuple

from rgpipeline.storage.filesystems import StorageOptions
from rgpipeline.storage.small_files import json_object, read_file, read_in
from rgpipeline.text.added_tokens import CONFIG, JSON, MODEL, DeclaredTokens, JsonFile
from rgpipeline.text.long_text import SPACE
from rgpipeline.text.sentencepiece_model import SentencePieceModel
from rgpipeline.text.tokenizer_json import TokenizerJson


class TokenizerFound(NamedTuple):
    """What a tokenizer is made of."""

    model: SentencePieceModel | TokenizerJson
    missing: tuple[str, ...] = ()  # unused tokens that other files declare and `model` lacks
    note: str = ""  # which file was chosen, where two differ; else empty
    special: frozenset[str] = frozenset()  # tokens that the other files call special


def find_tokenizer(url: str, storage_options: StorageOptions | None) -> TokenizerFound | None:
    """The tokenizer in the file or folder `url`, None if there is none. Raises WeightsError."""
    data = read_file(url, storage_options)
    if data is not None:
        return TokenizerFound(_from_file(data, url, storage_options))
    return _in_folder(url, storage_options)


def _from_file(
    data: bytes, url: str, storage_options: StorageOptions | None
) -> SentencePieceModel | TokenizerJson:
    """A tokenizer.model is taken alone; a tokenizer.json with the roles that its folder names."""
    if not data[:64].lstrip().startswith((b"{", b"[")):
        return SentencePieceModel(data, url)
    folder = url.rpartition("/")[0] or "."
    roles = DeclaredTokens(folder, storage_options, ("special_tokens_map.json", CONFIG))
    return TokenizerJson(JsonFile(url, data, json_object(data, url)), roles.named())


def _in_folder(folder: str, storage_options: StorageOptions | None) -> TokenizerFound | None:
    data = read_in(folder, MODEL, storage_options)
    declared = DeclaredTokens(folder, storage_options)
    found = _chosen(folder, data, declared)
    return found and found._replace(special=declared.special())


def _chosen(folder: str, data: bytes | None, declared: DeclaredTokens) -> TokenizerFound | None:
    """Of two files, the tokenizer.model (`data`) if it has and reads every token of the others,
    else the one with more tokens.
    """
    if data is None:
        return None if declared.json is None else TokenizerFound(_beside(declared.json, declared))
    model = SentencePieceModel(data, folder)
    if declared.json is None:
        return TokenizerFound(model, declared.missing_from(model))
    theirs = {index: _plain(piece) for index, piece in declared.json.by_id().items()}
    ours = {index: _plain(model.piece(index)) for index in range(model.vocab_size)}
    if theirs == ours and not declared.unread_by(model):
        return TokenizerFound(model)
    more = len(theirs) >= len(ours)
    note = (
        f"{folder}: {MODEL} ({len(ours):,} tokens) and {JSON} ({len(theirs):,}) differ; "
        f"{JSON if more else MODEL} is used. If the other is meant, name it as model.tokenizer"
    )
    if more:
        return TokenizerFound(_beside(declared.json, declared), note=note)
    return TokenizerFound(model, declared.missing_from(model), note)


def _beside(file: JsonFile, declared: DeclaredTokens) -> TokenizerJson:
    return TokenizerJson(file, declared.named(), declared.beside_json())


def _plain(piece: str) -> str:
    """One spelling for each piece: conversions of Gemma's call its `<0x09>` a tab."""
    return "\t" if piece == "<0x09>" else piece.replace(" ", SPACE)
