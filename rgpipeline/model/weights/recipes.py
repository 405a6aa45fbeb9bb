"""How tensors of a checkpoint become parameters, whatever the checkpoint's layout."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from rgpipeline.model.config import GriffinConfig
from rgpipeline.model.layers.array_types import HostArray, ParamPath

Build: TypeAlias = Callable[[Sequence[HostArray]], HostArray]


class Recipe(NamedTuple):
    """One parameter: where it goes, what it is made of, and how.

    Attributes:
        path: Its place in the parameter tree.
        sources: Names and shapes of the checkpoint's tensors, in the order that `build` takes.
        build: Makes the parameter of them; views are welcome, the caller converts and copies.
    """

    path: ParamPath
    sources: tuple[tuple[str, tuple[int, ...]], ...]
    build: Build


def same(parts: Sequence[HostArray]) -> HostArray:
    """The tensor as it is."""
    return parts[0]


def transposed(parts: Sequence[HostArray]) -> HostArray:
    """A matrix stored the other way round."""
    return parts[0].T


def inner_transposed(parts: Sequence[HostArray]) -> HostArray:
    """A row of matrices, each stored as [in out]."""
    return parts[0].swapaxes(1, 2)


def reshaped(*shape: int) -> Build:
    """The tensor in another shape."""
    return lambda parts: parts[0].reshape(shape)


def stacked(axis: int, each: Build = same) -> Build:
    """Several tensors side by side along a new axis."""
    return lambda parts: np.stack([each([part]) for part in parts], axis=axis)


def side_by_side(parts: Sequence[HostArray]) -> HostArray:
    """Several tensors, joined along the last axis."""
    return np.concatenate(parts, axis=-1)


def then(first: Build, second: Build) -> Build:
    """One arrangement after another."""
    return lambda parts: second([first(parts)])


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
