"""Checkpoints of the official Flax library (orbax), read tensor by tensor."""

from typing import Any

import numpy as np
import orbax.checkpoint as ocp

from rgpipeline.errors import WeightsError
from rgpipeline.model.params import flatten, nest
from rgpipeline.model.platform import skip_absent_tpu
from rgpipeline.model.recipes import HostArray
from rgpipeline.model.remote import Folder
from rgpipeline.model.stored import Stored


class OfficialReader:
    """All tensors of an orbax folder, by their names joined with `/`, without a leading `params/`.

    Orbax reads its own format from a local path only.

    Attributes:
        tensors: What there is, as the checkpoint's metadata say.
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
        self._leaves = {_name(path): (path, leaf) for path, leaf in flatten(metadata.tree).items()}
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


def _name(path: tuple[Any, ...]) -> str:
    parts = [str(part) for part in path]
    return "/".join(parts[1:] if parts[0] == "params" else parts)
