"""Opening a checkpoint: finds its format and its configuration, and checks its tensors."""

import logging
from pathlib import Path

from rgpipeline.addresses import DEMO, DEMO_FOLDER
from rgpipeline.errors import WeightsError
from rgpipeline.model.config import GriffinConfig
from rgpipeline.model.weights import (
    hf_folder,
    hf_layout,
    lora,
    official_folder,
    refusals,
)
from rgpipeline.model.weights.adapter_config import locate
from rgpipeline.model.weights.official_folder import Found
from rgpipeline.model.weights.recipes import Checkpoint
from rgpipeline.storage.filesystems import StorageOptions
from rgpipeline.storage.folders import Folder

_log = logging.getLogger(__name__)


def open_checkpoint(
    url: str,
    storage_options: StorageOptions | None = None,
    cache: Path | None = None,
    *,
    compare: bool = True,
    adapter: str | None = None,
    base: str | None = None,
) -> Checkpoint:
    """Opens a checkpoint and compares its tensors with those that the model needs.

    Args:
        url: See `loading.load`.
        storage_options: fsspec's options by protocol, with secrets filled in.
        cache: See `loading.load`.
        compare: Whether a head that is stored beside the embedding is compared with it, value by
            value; else the configuration says whether they are the same.
        adapter: See `loading.load`.
        base: See `loading.load`.

    Raises:
        WeightsError: It can't be used. The message lists all reasons.
        StoreError: A remote store failed again and again.
    """
    folder, merged = locate(_folder(url, storage_options), adapter, base, storage_options)
    found = _official(folder)
    if found is not None:
        opened = official_folder.open_folder(found, cache)
    else:
        opened = hf_folder.open_folder(folder, cache, compare=compare, alone=merged is None)
    faults = _faults(opened)
    if faults:
        raise WeightsError(refusals.listed(f"{folder.url}: not this model's weights:", faults))
    if opened.note:
        _log.info("%s: %s", folder.url, opened.note)
    if merged is None:
        return opened
    if found is not None:
        raise WeightsError(
            f"{folder.url}: an official Flax checkpoint; an adapter's base must be a Hugging Face "
            f"folder"
        )
    return lora.merged(opened, merged, cache)


def read_config(
    url: str,
    storage_options: StorageOptions | None = None,
    cache: Path | None = None,
    *,
    compare: bool = True,
    adapter: str | None = None,
    base: str | None = None,
) -> GriffinConfig:
    """The configuration alone. Arguments and errors are those of `open_checkpoint`."""
    folder, merged = locate(_folder(url, storage_options), adapter, base, storage_options)
    if merged is not None:
        return open_checkpoint(
            url, storage_options, cache, compare=compare, adapter=adapter, base=base
        ).config
    found = _official(folder)
    if found is not None:
        return official_folder.open_folder(found, cache).config
    return hf_folder.read_config(folder, compare=compare)


def _folder(url: str, storage_options: StorageOptions | None) -> Folder:
    if url == DEMO:
        url = DEMO_FOLDER
    return Folder(url, storage_options)


def _official(folder: Folder) -> Found | None:
    """The orbax checkpoint in a folder without safetensors; None if there is none."""
    if any(name.endswith(".safetensors") for name in folder.names()):
        return None
    return official_folder.find(folder)


def _faults(checkpoint: Checkpoint) -> list[str]:
    """Every difference between what the model needs and what the checkpoint holds."""
    tensors = checkpoint.reader.tensors
    needed = {name: shape for recipe in checkpoint.recipes for name, shape in recipe.sources}
    if not any(name in tensors for name in needed if name != hf_layout.HEAD):
        return refusals.misnamed(list(tensors), list(needed))
    faults = [
        f"missing tensor {name}, shape {list(shape)}"
        for name, shape in needed.items()
        if name not in tensors
    ]
    faults += [
        f"tensor {name} in {tensors[name].file}: expected shape {list(shape)}, "
        f"found {list(tensors[name].shape)}"
        for name, shape in needed.items()
        if name in tensors and tensors[name].shape != shape
    ]
    faults += [
        f"unexpected tensor {name} in {tensor.file}, shape {list(tensor.shape)}"
        for name, tensor in tensors.items()
        if name not in needed and not name.endswith(hf_layout.REDUNDANT_SUFFIXES)
    ]
    return faults
