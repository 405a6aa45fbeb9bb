"""A text that a model has read, kept for those who continue it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from rgpipeline.io.state_files import load_state, state_bytes
from rgpipeline.read_texts import ReadText
from rgpipeline.storage.filesystems import StorageOptions, resolve_options
from rgpipeline.storage.small_files import write_file


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """A text as a model has read it: a few megabytes, however long the text is.

    `Generator.read` makes one, and `Generator.generate(…, from_state=)` continues it. It fits every
    Generator of the same weights, dtype and quantization.
    """

    text: ReadText

    @property
    def position(self) -> int:
        """Tokens of the text."""
        return self.text.position

    @property
    def nbytes(self) -> int:
        """Its size in memory."""
        return self.text.nbytes

    def save(self, url: str | Path, storage_options: StorageOptions | None = None) -> None:
        """Writes it as one safetensors file, at a path or any fsspec URL; an older one is replaced.

        Raises OutputError if it can't be written, StoreError if the store doesn't answer.
        """
        write_file(str(url), state_bytes(self.text), resolve_options(storage_options))

    @classmethod
    def load(cls, url: str | Path, storage_options: StorageOptions | None = None) -> Self:
        """The state in the file at a path or any fsspec URL.

        Raises InputError if it is missing or damaged, StoreError if the store doesn't answer.
        """
        return cls(load_state(str(url), resolve_options(storage_options)))
