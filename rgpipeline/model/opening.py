"""Opening a checkpoint: what model it is, what it holds, and whether the two agree."""

import dataclasses
import importlib.resources
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rgpipeline.errors import WeightsError
from rgpipeline.model import hf_config, hf_layout, official_layout
from rgpipeline.model.config import GriffinConfig, known_configs
from rgpipeline.model.download import local_copy
from rgpipeline.model.recipes import Recipe
from rgpipeline.model.remote import Folder
from rgpipeline.model.safetensors_reader import SafetensorsReader, weight_files
from rgpipeline.model.stored import TensorReader
from rgpipeline.model.stores import StorageOptions

# Where remote official checkpoints are copied to unless the job names another place.
CACHE = Path.home() / ".cache" / "rgpipeline" / "weights"

# An official checkpoint has no configuration file of its own; these are the places, relative to
# it, where one may have been put.
_CONFIG_FILES = ("config.json", "../config.json", "../hf/config.json")

# What the tensors' shapes do not tell. Guessed, they would give plausible nonsense: with another
# window or soft cap the model still writes text.
_UNTOLD = {"attention_window_size": 2048, "logits_soft_cap": 30.0}
_EXAMPLE = {"model_type": "recurrent_gemma", **_UNTOLD, "embeddings_scale_by_sqrt_dim": True}

_MOST_FAULTS = 40  # lines of one message; a wrong configuration makes hundreds


class Checkpoint(NamedTuple):
    """A checkpoint opened, checked, and not yet read."""

    config: GriffinConfig
    reader: TensorReader
    recipes: tuple[Recipe, ...]


def open_checkpoint(
    url: str, storage_options: StorageOptions | None = None, cache: Path | None = None
) -> Checkpoint:
    """Opens a checkpoint and compares all that it holds with what the model needs.

    Args:
        url: See `checkpoint.load`.
        storage_options: fsspec's options by protocol, secrets already in place.
        cache: See `checkpoint.load`.

    Raises:
        WeightsError: It cannot be used; all reasons are told at once.
        StoreError: A remote store failed again and again.
    """
    folder = _folder(url, storage_options)
    opened = _official(folder, cache) if _is_official(folder) else _hugging_face(folder, cache)
    faults = _faults(opened)
    if len(faults) > _MOST_FAULTS:
        faults = [*faults[:_MOST_FAULTS], f"and {len(faults) - _MOST_FAULTS} more"]
    if faults:
        raise WeightsError("\n  ".join([f"{folder.url}: not this model's weights:", *faults]))
    return opened


def read_config(
    url: str, storage_options: StorageOptions | None = None, cache: Path | None = None
) -> GriffinConfig:
    """The configuration alone. Arguments and errors are those of `open_checkpoint`."""
    folder = _folder(url, storage_options)
    return _official(folder, cache).config if _is_official(folder) else _hf_config(folder)


def _folder(url: str, storage_options: StorageOptions | None) -> Folder:
    if url == "demo":
        url = str(importlib.resources.files("rgpipeline") / "demo")
    return Folder(url, storage_options)


def _hugging_face(folder: Folder, cache: Path | None) -> Checkpoint:
    config = _hf_config(folder)
    files = weight_files(folder)
    if cache is not None:
        folder = local_copy(folder, [folder.file(name) for name in files], cache)
    reader = SafetensorsReader(folder, files)
    return Checkpoint(config, reader, tuple(hf_layout.recipes(config)))


def _hf_config(folder: Folder) -> GriffinConfig:
    if "config.json" not in folder.names():
        raise WeightsError(
            f"{folder.url}: neither a Hugging Face folder (no config.json) nor an official Flax "
            f"checkpoint (no _METADATA); it holds {_listed(folder)}"
        )
    return _parsed(folder, "config.json", folder.read_json("config.json"))


def _parsed(
    folder: Folder, name: str, fields: Mapping[str, Any], inferred: GriffinConfig | None = None
) -> GriffinConfig:
    beside = name.replace("config.json", "generation_config.json")
    generation = folder.read_json(beside) if folder.has(beside) else None
    where = f"{folder.url}/{name}"
    return hf_config.parse(fields, where, generation=generation, inferred=inferred)


def _listed(folder: Folder) -> str:
    names = sorted(folder.names())
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "") if names else "nothing"


def _is_official(folder: Folder) -> bool:
    """Whether the folder looks like an orbax checkpoint."""
    names = folder.names()
    marked = any(mark in names for mark in ("_METADATA", "manifest.ocdbt", "checkpoint"))
    return marked and not any(name.endswith(".safetensors") for name in names)


def _official(folder: Folder, cache: Path | None) -> Checkpoint:
    # Here, since few need orbax, and importing it takes a quarter of a second.
    from rgpipeline.model.official_reader import OfficialReader

    if folder.local is None:
        reader = OfficialReader(local_copy(folder, folder.tree(), cache or CACHE))
    else:
        reader = OfficialReader(folder)
    shapes = {name: tensor.shape for name, tensor in reader.tensors.items()}
    config = _completed(folder, official_layout.inferred_config(shapes, folder.url))
    return Checkpoint(config, reader, tuple(official_layout.recipes(config)))


def _completed(folder: Folder, inferred: GriffinConfig) -> GriffinConfig:
    """Adds what shapes do not tell, from a file beside the tensors or a model of the same sizes."""
    for name in filter(folder.has, _CONFIG_FILES):
        fields = folder.read_json(name)
        config = _parsed(folder, name, fields, inferred)
        faults = [f"{key} is missing" for key in _UNTOLD if key not in fields]
        faults += official_layout.differences(config, inferred)
        if faults:
            raise WeightsError(
                f"{folder.url}/{name} does not fit the tensors:\n  " + "\n  ".join(faults)
            )
        return config
    for known in known_configs():
        sized = dataclasses.replace(known, vocab_size=inferred.vocab_size)
        if not official_layout.differences(sized, inferred):
            return sized
    raise WeightsError(
        f"{folder.url}: an official checkpoint does not record its attention window, logits soft "
        f"cap and embedding scale, and its sizes are no known model's; put a config.json into the "
        f"folder that says them, like {json.dumps(_EXAMPLE)}"
    )


def _faults(checkpoint: Checkpoint) -> list[str]:
    """Every difference between what the model needs and what the checkpoint holds."""
    held = checkpoint.reader.tensors
    needed = {name: shape for recipe in checkpoint.recipes for name, shape in recipe.sources}
    faults = [
        f"missing tensor {name}, shape {list(shape)}"
        for name, shape in needed.items()
        if name not in held
    ]
    faults += [
        f"tensor {name} in {held[name].file}: expected shape {list(shape)}, "
        f"found {list(held[name].shape)}"
        for name, shape in needed.items()
        if name in held and held[name].shape != shape
    ]
    faults += [
        f"unexpected tensor {name} in {tensor.file}, shape {list(tensor.shape)}"
        for name, tensor in held.items()
        if name not in needed and not name.endswith(hf_layout.REDUNDANT_SUFFIXES)
    ]
    return faults
