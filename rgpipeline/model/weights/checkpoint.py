"""Opening a checkpoint: finds its format and its configuration, and checks its tensors."""

import logging
from pathlib import Path

from rgpipeline.errors import WeightsError
from rgpipeline.model.config import GriffinConfig
from rgpipeline.model.weights import (
    hf_folder,
    hf_layout,
    lora,
    official_folder,
    orbax_folders,
    refusals,
    renamed_official,
)
from rgpipeline.model.weights.model_source import ModelSource
from rgpipeline.model.weights.recipes import Checkpoint

_log = logging.getLogger(__name__)


def open_checkpoint(
    source: ModelSource, cache: Path | None = None, *, compare: bool = True
) -> Checkpoint:
    """Opens a checkpoint and compares its tensors with those that the model needs.

    Args:
        source: The checkpoint, and the adapter to merge into it if there is one.
        cache: See `loading.load`.
        compare: Whether a head that is stored beside the embedding is compared with it, value by
            value; else the configuration says whether they are the same.

    Raises:
        WeightsError: It can't be used. The message lists all reasons.
        StoreError: A remote store failed again and again.
    """
    folder, adapter = source.weights_folder(), source.adapter_folder()
    found = orbax_folders.find(folder)
    if found is not None:
        opened = official_folder.open_folder(found, cache)
    else:
        opened = hf_folder.open_folder(folder, cache, compare=compare, alone=adapter is None)
    faults = _faults(opened)
    if faults:
        raise WeightsError(refusals.listed(f"{folder.url}: not this model's weights:", faults))
    if opened.note:
        _log.info("%s: %s", folder.url, opened.note)
    if adapter is None:
        return opened
    base = opened if found is None else renamed_official.renamed(opened)
    return lora.merged(base, adapter, cache)


def read_config(
    source: ModelSource, cache: Path | None = None, *, compare: bool = True
) -> GriffinConfig:
    """The configuration alone. Arguments and errors are those of `open_checkpoint`."""
    if source.adapter is not None:
        return open_checkpoint(source, cache, compare=compare).config
    folder = source.weights_folder()
    found = orbax_folders.find(folder)
    if found is not None:
        return official_folder.open_folder(found, cache).config
    return hf_folder.read_config(folder, compare=compare)


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
