"""Checkpoints of the official Flax library (orbax), read tensor by tensor."""

import re
from typing import Any

import numpy as np
import orbax.checkpoint as ocp

from rgpipeline.errors import WeightsError
from rgpipeline.model.params import flatten, nest
from rgpipeline.model.platform import skip_absent_tpu
from rgpipeline.model.recipes import HostArray
from rgpipeline.model.stored import Stored
from rgpipeline.storage.folders import Folder

_EMBEDDING = ("embedder", "input_embedding")
_OTHERS = re.compile(r"opt|(^|_)(mu|nu|ema|avg)(_|$)")  # what parameters are not below


class OfficialReader:
    """The parameters in an orbax folder, by their names joined with `/`.

    They may be all that there is, or a part of a training state: `params` beside `opt_state` and
    `step`. Orbax reads its own format from a local path only.

    Attributes:
        tensors: The parameters' tensors, as the checkpoint's metadata say; names are relative to
            `inside`.
        inside: What the names of all of them begin with in the checkpoint, such as `params`.
        beside: What else is at the top of the checkpoint.
    """

    def __init__(self, folder: Folder) -> None:
        """Reads the metadata of a folder on this machine.

        Raises:
            WeightsError: Orbax cannot read them.
        """
        assert folder.local is not None
        skip_absent_tpu()  # orbax asks jax for its devices
        self._folder, self._path = folder, folder.local
        self._checkpointer = ocp.PyTreeCheckpointer()
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
    """Where in the tree the parameters are.

    An optimizer's moments and an average of the parameters have the same names below another key.
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
