"""A checkpoint's tensors, and the recipes by which they become parameters."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from rgpipeline.model.config import GriffinConfig
from rgpipeline.model.param_tree import HostArray, ParamPath

Build: TypeAlias = Callable[[Sequence[HostArray]], HostArray]


class Recipe(NamedTuple):
    """How one parameter is made.

    Attributes:
        path: Its path in the parameter tree.
        sources: Names and shapes of the checkpoint's tensors, in the order that `build` takes.
        build: Makes the parameter from them; may return a view, the caller converts and copies.
    """

    path: ParamPath
    sources: tuple[tuple[str, tuple[int, ...]], ...]
    build: Build


def same(tensors: Sequence[HostArray]) -> HostArray:
    """The tensor as it is."""
    return tensors[0]


def transposed(tensors: Sequence[HostArray]) -> HostArray:
    """The transpose of a matrix."""
    return tensors[0].T


def inner_transposed(tensors: Sequence[HostArray]) -> HostArray:
    """A stack of matrices, each transposed."""
    return tensors[0].swapaxes(1, 2)


def reshaped(*shape: int) -> Build:
    """The tensor in another shape."""
    return lambda tensors: tensors[0].reshape(shape)


def stacked(axis: int, each: Build = same) -> Build:
    """Several tensors, stacked along a new axis."""
    return lambda tensors: np.stack([each([tensor]) for tensor in tensors], axis=axis)


def concatenated(tensors: Sequence[HostArray]) -> HostArray:
    """Several tensors, joined along the last axis."""
    return np.concatenate(tensors, axis=-1)


def then(first: Build, second: Build) -> Build:
    """`second` of what `first` makes."""
    return lambda tensors: second([first(tensors)])


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
    """An opened checkpoint whose tensors are not read yet.

    Attributes:
        config: The model.
        reader: Its tensors.
        recipes: How they become parameters.
        note: What was chosen, if the folder holds more than one checkpoint; else empty.
    """

    config: GriffinConfig
    reader: TensorReader
    recipes: tuple[Recipe, ...]
    note: str = ""
