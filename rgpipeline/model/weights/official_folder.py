"""Checkpoints of the official Flax library, in orbax format: reading them."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from rgpipeline.errors import WeightsError
from rgpipeline.model.config import GriffinConfig, known_configs
from rgpipeline.model.param_tree import HostArray, flatten, nest
from rgpipeline.model.weights import hf_folder, official_layout
from rgpipeline.model.weights.orbax_folders import Found
from rgpipeline.model.weights.recipes import Checkpoint, Stored
from rgpipeline.storage.folders import Folder
from rgpipeline.storage.local_copy import local_copy

# Where remote official checkpoints are copied to, unless the job names another folder.
CACHE = Path.home() / ".cache" / "rgpipeline" / "weights"

# An official checkpoint has no configuration file of its own. Somebody may have put one into it, or
# into a folder above it, under one of these names.
_CONFIG_FILES = ("config.json", "hf/config.json")

# These do not follow from the tensors' shapes. A wrong guess would give plausible nonsense: with
# another window or soft cap the model still writes text.
_UNINFERRED = {"attention_window_size": 2048, "logits_soft_cap": 30.0}
_EXAMPLE = {"model_type": "recurrent_gemma", **_UNINFERRED, "embeddings_scale_by_sqrt_dim": True}

_EMBEDDING = ("embedder", "input_embedding")
_OTHERS = re.compile(r"opt|(^|_)(mu|nu|ema|avg)(_|$)")  # keys of other trees with the same names


def open_folder(found: Found, cache: Path | None) -> Checkpoint:
    """The checkpoint that `find` found; its configuration comes from a file beside it.

    Args:
        found: The checkpoint's folder.
        cache: Where to copy a remote one to; None for `CACHE`.

    Raises:
        WeightsError: It cannot be used.
        StoreError: A remote store failed again and again.
    """
    if found.folder.local is None:
        files = found.folder.tree()
        reader = OfficialReader(local_copy(found.folder, files, cache or CACHE))
    else:
        reader = OfficialReader(found.folder)
    shapes = {name: tensor.shape for name, tensor in reader.tensors.items()}
    inferred = official_layout.inferred_config(shapes, found.folder.url)
    config = _completed(found, inferred)
    notes = [found.note] if found.note else []
    if reader.beside:
        notes.append(f"took {reader.inside} and left {', '.join(reader.beside)}")
    return Checkpoint(config, reader, tuple(official_layout.recipes(config)), "; ".join(notes))


def _completed(found: Found, inferred: GriffinConfig) -> GriffinConfig:
    """Adds what shapes don't show, from a file beside the tensors or a known model of the sizes."""
    folder = found.folder
    names = [home + name for home in found.homes() for name in _CONFIG_FILES]
    for name in filter(folder.has, names):
        fields = folder.read_json(name)
        config = hf_folder.parsed(folder, name, fields, inferred)
        faults = [f"{key} is missing" for key in _UNINFERRED if key not in fields]
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


class OfficialReader:
    """The parameters in an orbax folder, by their names joined with `/`.

    They may be the whole checkpoint, or a part of a training state: `params` beside `opt_state`
    and `step`. Orbax reads its own format from a local path only.

    Attributes:
        tensors: The parameters' tensors, from the checkpoint's metadata; names are relative to
            `inside`.
        inside: The prefix of all their names in the checkpoint, such as `params`.
        beside: The checkpoint's other top-level keys.
    """

    def __init__(self, folder: Folder) -> None:
        """Reads the metadata of a folder on this machine.

        Raises:
            WeightsError: Orbax cannot read them.
        """
        assert folder.local is not None
        self._folder, self._path = folder, folder.local
        self._checkpointer = _orbax().PyTreeCheckpointer()
        try:
            metadata = self._checkpointer.metadata(self._path).item_metadata
        except Exception as error:  # orbax raises whatever its parsers do
            raise WeightsError(f"{folder.url}: not a readable orbax checkpoint: {error}") from error
        if metadata is None:
            raise WeightsError(
                f"{folder.url}: an incomplete orbax checkpoint (it has _METADATA, manifest.ocdbt, "
                f"d/ and ocdbt.process_0/ when it is whole); copy the folder again"
            )
        tree = metadata.tree if isinstance(metadata.tree, dict) else {}
        arrays = {path: leaf for path, leaf in flatten(tree).items() if hasattr(leaf, "shape")}
        prefix = _prefix(list(arrays), folder.url)
        self.inside = "/".join(map(str, prefix))
        self.beside = sorted(str(key) for key in tree if prefix and key != prefix[0])
        self._leaves = {
            "/".join(map(str, path[len(prefix) :])): (path, leaf)
            for path, leaf in arrays.items()
            if path[: len(prefix)] == prefix
        }
        self.tensors = {
            name: Stored(folder.url, tuple(leaf.shape), np.dtype(leaf.dtype))
            for name, (_, leaf) in self._leaves.items()
        }

    def read(self, name: str) -> HostArray:
        """The tensor's values.

        Raises:
            WeightsError: They are truncated or unreadable.
        """
        path, leaf = self._leaves[name]
        ocp = _orbax()
        wanted = ocp.args.PyTreeRestore(
            item=nest({path: leaf}),
            restore_args=nest({path: ocp.RestoreArgs(restore_type=np.ndarray)}),
            partial_restore=True,
        )
        try:
            restored = self._checkpointer.restore(self._path, args=wanted)
        except Exception as error:  # orbax raises whatever its storage does
            raise WeightsError(
                f"{self._folder.url}: tensor {name} cannot be read ({error}); copy the folder again"
            ) from error
        value: HostArray = flatten(restored)[path]
        return value


def _prefix(paths: list[tuple[Any, ...]], where: str) -> tuple[Any, ...]:
    """The path in the tree of the parameters.

    An optimizer's moments and an average of the parameters have the same names under another key.
    """
    found = {path[:-2] for path in paths if tuple(map(str, path[-2:])) == _EMBEDDING}
    own = [path for path in found if not any(_OTHERS.search(str(key)) for key in path)]
    if len(own) > 1:
        own = [path for path in own if all(key == "params" for key in path)] or own
    if len(own) > 1:
        named = ", ".join(sorted("/".join(map(str, path)) for path in own))
        raise WeightsError(
            f"{where}: several sets of parameters: {named}; save the one you want by itself"
        )
    return own[0] if own else ("params",) if any(path[0] == "params" for path in paths) else ()


def _orbax() -> Any:
    """The module, imported late: few need it, and with jax it takes a second."""
    import orbax.checkpoint

    from rgpipeline.model.platforms import skip_absent_tpu

    skip_absent_tpu()  # orbax asks jax for its devices
    return orbax.checkpoint
