"""A reader of tensors that adds an adapter's updates to them as it reads.

Everything is added up in float32, as many rows at a time as make a million values, and then cast.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rgpipeline.model.param_tree import HostArray
from rgpipeline.model.weights.recipes import Stored, TensorReader

_VALUES = 1 << 20  # that are float32 at one time

Floats = NDArray[np.float32]
Read = Callable[[], Floats]  # reads one of the adapter's tensors, in float32
Change = Callable[[Floats, int], None]  # of some rows, in place, given the first one's index
Update = Callable[[HostArray, list[Change]], Change]  # given the tensor and the changes before


class Source(NamedTuple):
    """Where a tensor's values come from, and what is added to them."""

    reader: TensorReader
    name: str
    updates: tuple[Update, ...] = ()


class MergedReader:
    """A checkpoint's tensors with an adapter in them.

    Attributes:
        tensors: All tensors, as the files hold them.
        dtype: What merged matrices are cast to; others are float32.
    """

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = sources
        self.tensors: dict[str, Stored] = {
            name: source.reader.tensors[source.name] for name, source in sources.items()
        }
        self.dtype: np.dtype[Any] = np.dtype(np.float32)

    def read(self, name: str) -> HostArray:
        """The merged values; a view of the file if nothing is merged."""
        reader, stored_name, updates = self._sources[name]
        value = reader.read(stored_name)
        if not updates:
            return value
        changes: list[Change] = []
        for update in updates:
            changes.append(update(value, changes))
        dtype = self.dtype if value.ndim > 1 else np.dtype(np.float32)
        in_place = value.dtype == dtype and value.flags.writeable
        merged = value if in_place else np.empty(value.shape, dtype)
        for first, rows in _changed(value, changes):
            merged[first : first + len(rows)] = rows
        return merged


def _changed(value: HostArray, changes: Sequence[Change]) -> Iterator[tuple[int, Floats]]:
    """The tensor in float32 with all changes, some rows at a time, each with its first index."""
    step = max(1, _VALUES * len(value) // value.size)
    for first in range(0, len(value), step):
        rows = value[first : first + step].astype(np.float32)
        for change in changes:
            change(rows, first)
        yield first, rows


def low_rank(
    a: Read, b: Read, scale: float, transposed: bool, _: HostArray, __: list[Change]
) -> Change:
    """Adds the product of two matrices."""
    left, right = (a().T, b().T) if transposed else (b(), a())

    def change(rows: Floats, first: int) -> None:
        rows += (left[first : first + len(rows)] @ right) * np.float32(scale)

    return change


def row_norms(magnitude: Read, _: HostArray, __: list[Change]) -> Change:
    """DoRA of a linear layer: gives each row its norm."""
    norms = magnitude()

    def change(rows: Floats, first: int) -> None:
        rows *= (norms[first : first + len(rows)] / np.linalg.norm(rows, axis=1))[:, None]

    return change


def column_norms(magnitude: Read, value: HostArray, before: list[Change]) -> Change:
    """DoRA of an embedding: gives each column its norm."""
    squares = sum((rows.astype(np.float64) ** 2).sum(0) for _, rows in _changed(value, before))
    factors = (magnitude() / np.sqrt(squares)).astype(np.float32)

    def change(rows: Floats, _: int) -> None:
        rows *= factors

    return change


def added_bias(bias: Read, scale: float, _: HostArray, __: list[Change]) -> Change:
    """Adds the bias of an update."""
    added = bias() * np.float32(scale)

    def change(rows: Floats, first: int) -> None:
        rows += added[first : first + len(rows)]

    return change


def replaced_rows(trained: Read, ids: Sequence[int], _: HostArray, __: list[Change]) -> Change:
    """Replaces the rows of some tokens."""
    values = trained()

    def change(rows: Floats, first: int) -> None:
        for index, token in enumerate(ids):
            if first <= token < first + len(rows):
                rows[token - first] = values[index]

    return change
