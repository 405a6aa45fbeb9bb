"""What a checkpoint holds: named tensors, known before they are read."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from rgpipeline.model.config import GriffinConfig
from rgpipeline.model.recipes import HostArray, Recipe


class Stored(NamedTuple):
    """A tensor as a checkpoint holds it; `file` is for messages."""

    file: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class TensorReader(Protocol):
    """A checkpoint opened for reading."""

    @property
    def tensors(self) -> Mapping[str, Stored]:
        """Every tensor there is, by name."""

    def read(self, name: str) -> HostArray:
        """One tensor's values; a view of the file where possible."""


class Checkpoint(NamedTuple):
    """A checkpoint opened, and not yet read.

    Attributes:
        config: The model.
        reader: Its tensors.
        recipes: How they become parameters.
        note: What was taken, where the folder holds more than one thing to take; else empty.
    """

    config: GriffinConfig
    reader: TensorReader
    recipes: tuple[Recipe, ...]
    note: str = ""
