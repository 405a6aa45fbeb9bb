"""The states that a job stores beside its parts, one file for each: `_states/ADDRESS.safetensors`.

An address is a digest of model, settings and tokens. So workers that do one row twice write one
file, and a file that no row names is of a row that was lost, and comes again.
"""

from collections.abc import Iterable

from rgpipeline.io.state_files import state_bytes
from rgpipeline.read_texts import ReadText
from rgpipeline.storage.store import Store

_FOLDER = "_states/"  # readers of the parts skip names with an underscore


def state_name(read: ReadText) -> str:
    """The name of a state's file in the output folder."""
    return f"{_FOLDER}{read.address}.safetensors"


class StoredStates:
    """The states in an output folder."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def put(self, read: ReadText) -> None:
        """Stores a state, if it is not there. Raises StoreError."""
        name = state_name(read)
        if not self._store.exists(name):
            self._store.create(name, state_bytes(read))

    def remove_others(self, named: Iterable[str]) -> int:
        """Removes the files that are not among these addresses; returns their number."""
        kept = set(named)
        others = [name for name in self._store.list(_FOLDER) if self._store.url(name) not in kept]
        for name in others:
            self._store.delete(name)
        return len(others)
