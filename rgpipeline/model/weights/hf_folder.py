"""Opening a Hugging Face folder: its configuration, its files of weights, its head."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rgpipeline.errors import WeightsError
from rgpipeline.model.config import ATTENTION, GriffinConfig
from rgpipeline.model.weights import hf_config, hf_layout, refusals
from rgpipeline.model.weights.hf_layout import BODY, EMBEDDING, HEAD
from rgpipeline.model.weights.recipes import Checkpoint
from rgpipeline.model.weights.safetensors_reader import SafetensorsReader
from rgpipeline.storage.folders import Folder
from rgpipeline.storage.local_copy import local_copy

_NAME = "config.json"


def open_folder(
    folder: Folder, cache: Path | None, *, compare: bool, alone: bool = True
) -> Checkpoint:
    """The folder's checkpoint; its tensors are not yet compared with what the model needs.

    Args:
        folder: The folder.
        cache: Where to copy the files to first, or None.
        compare: Whether a head that is stored beside the embedding is compared with it; else
            the configuration decides.
        alone: Whether no adapter was named, so that one beside the model is a mistake.

    Raises:
        WeightsError: It cannot be used.
        StoreError: A remote store failed again and again.
    """
    fields = read_fields(folder, alone=alone)
    config = parsed(folder, _NAME, fields)
    files = weight_files(folder, fields.get("transformers_weights"))
    copy = folder
    if cache is not None:
        copy = local_copy(folder, [folder.file(name) for name in files.names], cache)
    reader = SafetensorsReader(copy, files.names)
    body = _body(reader)
    config, embedding = _with_head(config, reader, body, compare)
    if fields.get("num_key_value_heads") is None:
        config = _with_kv_heads(config, reader, body)
    recipes = tuple(hf_layout.recipes(config, body, embedding))
    return Checkpoint(config, reader, recipes, files.note)


def read_config(folder: Folder, *, compare: bool) -> GriffinConfig:
    """The configuration alone; `compare` and errors are those of `open_folder`.

    There need not be any weights.
    """
    fields = read_fields(folder)
    config = parsed(folder, _NAME, fields)
    if not any(name.endswith(".safetensors") for name in folder.names()):
        return config
    return open_folder(folder, None, compare=compare).config


def read_fields(folder: Folder, *, alone: bool = True) -> Mapping[str, Any]:
    """The folder's `config.json`. Raises WeightsError if there is none, or no float weights.

    `alone` is that of `open_folder`.
    """
    fault = refusals.adapter(folder) if alone else None
    if fault is None and _NAME not in folder.names():
        fault = refusals.no_model(folder)
    if fault is not None:
        raise WeightsError(fault)
    fields = folder.read_json(_NAME)
    quantization = fields.get("quantization_config")
    if quantization:
        fault = refusals.quantized_config(quantization if isinstance(quantization, dict) else {})
        raise WeightsError(f"{folder.url}/{_NAME}: {fault}")
    return fields


def parsed(
    folder: Folder, name: str, fields: Mapping[str, Any], inferred: GriffinConfig | None = None
) -> GriffinConfig:
    """The configuration in a `config.json` of this name and the generation config beside it."""
    beside = name.replace("config.json", "generation_config.json")
    generation = folder.read_json(beside) if folder.has(beside) else None
    where = f"{folder.url}/{name}"
    return hf_config.parse(fields, where, generation=generation, inferred=inferred)


def _body(reader: SafetensorsReader) -> str:
    """The prefix of the tensors' names: empty if the model was saved without its head."""
    alone = EMBEDDING in reader.tensors and BODY + EMBEDDING not in reader.tensors
    return "" if alone else BODY


def _with_head(
    config: GriffinConfig, reader: SafetensorsReader, body: str, compare: bool
) -> tuple[GriffinConfig, str]:
    """The configuration with the head as the tensors have it, and the embedding's name.

    As in transformers: a head and an embedding that differ are both used, whatever the
    configuration says; if the two are tied and only one is stored, it is both.
    """
    embedding, tensors = f"{body}{EMBEDDING}", reader.tensors
    if HEAD not in tensors:
        return config, embedding
    if embedding not in tensors:
        return config, HEAD if config.tied else embedding
    tied = tensors[HEAD].shape == tensors[embedding].shape and config.tied
    if compare:
        tied = reader.equal(HEAD, embedding)
    return dataclasses.replace(config, tied=tied), embedding


def _with_kv_heads(config: GriffinConfig, reader: SafetensorsReader, body: str) -> GriffinConfig:
    """The configuration with as many heads of keys and values as the tensors show.

    To transformers, an absent `num_key_value_heads` stands for all heads. Earlier versions wrote
    models with one head without it.
    """
    if ATTENTION not in config.block_types:
        return config
    name = f"{body}layers.{config.block_types.index(ATTENTION)}.temporal_block.k_proj.weight"
    stored = reader.tensors.get(name)
    one = stored is not None and stored.shape[:1] == (config.head_dim,)
    return dataclasses.replace(config, kv_heads=1) if one else config


_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_SHOWN = 3


class WeightFiles(NamedTuple):
    """The files, and a note if the folder holds others too; else an empty note."""

    names: list[str]
    note: str


def weight_files(folder: Folder, named: object = None) -> WeightFiles:
    """The folder's safetensors files, chosen as transformers does.

    That is the file or index that `config.json` names, else `model.safetensors`, else the files
    that the index names, else all safetensors files.

    Args:
        folder: The folder.
        named: `transformers_weights` of its `config.json`.

    Raises:
        WeightsError: There are none, or some that the index names are missing.
        StoreError: A remote store failed again and again.
    """
    present = sorted(
        name
        for name in folder.names()
        if name.endswith(".safetensors") and not name.startswith("adapter_")
    )
    first = [named] if isinstance(named, str) else [_SINGLE, _INDEX]
    taken = next((name for name in first if name in folder.names()), None)
    if taken is None and isinstance(named, str):
        raise WeightsError(
            f"{folder.url}: config.json names {named} (transformers_weights), which is not there"
        )
    if taken is None:
        if not present:
            raise WeightsError(f"{folder.url}: no *.safetensors file{_hint(folder.names())}")
        return WeightFiles(present, "")
    files = [taken] if taken.endswith(".safetensors") else _indexed(folder, taken, present)
    left = [name for name in present if name not in files]
    if taken == _SINGLE and _INDEX in folder.names():
        left.append(_INDEX)
    return WeightFiles(files, f"took {taken}, not {_listed(left)}" if left else "")


def _indexed(folder: Folder, index: str, present: Sequence[str]) -> list[str]:
    """The files that an index names."""
    weight_map = folder.read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(map(_is_text, weight_map.values())):
        raise WeightsError(f"{folder.url}/{index}: no 'weight_map' of tensors to files")
    needed = sorted(set(weight_map.values()))
    missing = [name for name in needed if name not in present]
    if missing:
        raise WeightsError(
            f"{folder.url}: {index} names files that are not there: {', '.join(missing)}; "
            f"copy them, or the whole folder again"
        )
    return needed


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _hint(names: Sequence[str]) -> str:
    pickled = [name for name in names if name.endswith((".bin", ".pt", ".pth"))]
    if not pickled:
        return ""
    return (
        f"; {pickled[0]} is PyTorch's pickle, which runs code when read: save the model again "
        f"with save_pretrained(..., safe_serialization=True)"
    )
