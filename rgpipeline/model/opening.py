"""Opening a checkpoint: what model it is, what it holds, and whether the two agree."""

import dataclasses
import importlib.resources
import json
import logging
from pathlib import Path

from rgpipeline.errors import WeightsError
from rgpipeline.model import hf_folder, hf_layout, official_folder, official_layout, refusals
from rgpipeline.model.config import GriffinConfig, known_configs
from rgpipeline.model.official_folder import Found
from rgpipeline.model.stored import Checkpoint
from rgpipeline.storage.folders import Folder
from rgpipeline.storage.local_copy import local_copy
from rgpipeline.storage.stores import StorageOptions

# Where remote official checkpoints are copied to unless the job names another place.
CACHE = Path.home() / ".cache" / "rgpipeline" / "weights"

# An official checkpoint has no configuration file of its own; these are the places, relative to
# it, where one may have been put.
_CONFIG_FILES = ("config.json", "../config.json", "../hf/config.json")

# What the tensors' shapes do not tell. Guessed, they would give plausible nonsense: with another
# window or soft cap the model still writes text.
_UNTOLD = {"attention_window_size": 2048, "logits_soft_cap": 30.0}
_EXAMPLE = {"model_type": "recurrent_gemma", **_UNTOLD, "embeddings_scale_by_sqrt_dim": True}

_log = logging.getLogger(__name__)

_MOST_FAULTS = 40  # lines of one message; a wrong configuration makes hundreds


def open_checkpoint(
    url: str,
    storage_options: StorageOptions | None = None,
    cache: Path | None = None,
    *,
    compare: bool = True,
) -> Checkpoint:
    """Opens a checkpoint and compares all that it holds with what the model needs.

    Args:
        url: See `checkpoint.load`.
        storage_options: fsspec's options by protocol, secrets already in place.
        cache: See `checkpoint.load`.
        compare: Whether a head that is stored beside the embedding is compared with it, value by
            value; else the configuration says whether they are one.

    Raises:
        WeightsError: It cannot be used; all reasons are told at once.
        StoreError: A remote store failed again and again.
    """
    folder = _folder(url, storage_options)
    found = _official(folder)
    if found is not None:
        opened = _open_official(folder, found, cache)
    else:
        opened = hf_folder.open_folder(folder, cache, compare=compare)
    faults = _faults(opened)
    if len(faults) > _MOST_FAULTS:
        faults = [*faults[:_MOST_FAULTS], f"and {len(faults) - _MOST_FAULTS} more"]
    if faults:
        raise WeightsError("\n  ".join([f"{folder.url}: not this model's weights:", *faults]))
    if opened.note:
        _log.info("%s: %s", folder.url, opened.note)
    return opened


def read_config(
    url: str,
    storage_options: StorageOptions | None = None,
    cache: Path | None = None,
    *,
    compare: bool = True,
) -> GriffinConfig:
    """The configuration alone. Arguments and errors are those of `open_checkpoint`."""
    folder = _folder(url, storage_options)
    found = _official(folder)
    if found is not None:
        return _open_official(folder, found, cache).config
    return hf_folder.read_config(folder, compare=compare)


def _folder(url: str, storage_options: StorageOptions | None) -> Folder:
    if url == "demo":
        url = str(importlib.resources.files("rgpipeline") / "demo")
    return Folder(url, storage_options)


def _official(folder: Folder) -> Found | None:
    """The orbax checkpoint in a folder without safetensors; None if there is none."""
    if any(name.endswith(".safetensors") for name in folder.names()):
        return None
    return official_folder.find(folder)


def _open_official(folder: Folder, found: Found, cache: Path | None) -> Checkpoint:
    # Here, since few need orbax, and importing it takes a quarter of a second.
    from rgpipeline.model.official_reader import OfficialReader

    if found.folder.local is None:
        files = found.folder.tree()
        reader = OfficialReader(local_copy(found.folder, files, cache or CACHE))
    else:
        reader = OfficialReader(found.folder)
    shapes = {name: tensor.shape for name, tensor in reader.tensors.items()}
    inferred = official_layout.inferred_config(shapes, found.folder.url)
    config = _completed(found.folder, inferred, found.above)
    notes = [found.note] if found.note else []
    if reader.beside:
        notes.append(f"took {reader.inside} and left {', '.join(reader.beside)}")
    return Checkpoint(config, reader, tuple(official_layout.recipes(config)), "; ".join(notes))


def _completed(folder: Folder, inferred: GriffinConfig, above: str) -> GriffinConfig:
    """Adds what shapes do not tell, from a file beside the tensors or a model of the same sizes.

    `above` leads from the tensors' folder to the one that was given.
    """
    names = dict.fromkeys((*_CONFIG_FILES, *(above + name for name in _CONFIG_FILES)))
    for name in filter(folder.has, names):
        fields = folder.read_json(name)
        config = hf_folder.parsed(folder, name, fields, inferred)
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
    if not any(name in held for name in needed if name != hf_layout.HEAD):
        return refusals.misnamed(list(held), list(needed))
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
