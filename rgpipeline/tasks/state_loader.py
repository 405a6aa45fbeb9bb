"""Loads the states that rows follow; many rows may follow one."""

from collections import OrderedDict
from dataclasses import dataclass, field

from rgpipeline.errors import RowError, UserError
from rgpipeline.io.state_files import load_state
from rgpipeline.read_texts import ReadText
from rgpipeline.storage.filesystems import StorageOptions

_KEPT = 2  # states in memory, for the next rows


@dataclass(frozen=True, slots=True)
class StateLoader:
    """Loads states by their addresses, and keeps the last ones. Belongs to one thread."""

    options: StorageOptions | None = None
    _kept: OrderedDict[str, ReadText] = field(default_factory=OrderedDict)

    def load(self, url: str) -> tuple[ReadText, int]:
        """The state in the file at `url`, and its bytes; 0 where it is in memory already.

        Raises RowError where there is none that can be read, StoreError if the store doesn't
        answer.
        """
        if url in self._kept:
            self._kept.move_to_end(url)
            return self._kept[url], 0
        try:
            read = load_state(url, self.options)
        except UserError as error:
            raise RowError(str(error)) from error
        self._kept[url] = read
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return read, read.nbytes
