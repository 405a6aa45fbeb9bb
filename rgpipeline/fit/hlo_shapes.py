"""Shapes as scheduled HLO prints them: element type, axes, layout, tiles and memory space."""

import math
import re
from dataclasses import dataclass

# Memory spaces of a TPU: 0 (not printed) is HBM, 1 is VMEM, 2 semaphores, 6 scalar memory.
HBM = 0

_BITS = {"pred": 8, "token": 0, "opaque": 0, "c64": 64, "c128": 128, "tf32": 32}
_ARRAY = re.compile(r"([a-z]+[0-9]*[a-z0-9]*)\[([^\]]*)\](\{[^}]*\})?")


@dataclass(frozen=True, slots=True)
class Array:
    """One array: its elements, its layout and its memory space."""

    dtype: str
    dims: tuple[int, ...]
    minor_to_major: tuple[int, ...] = ()
    tile: tuple[int, ...] = ()  # the outermost tile, major first
    space: int = HBM

    @property
    def elements(self) -> int:
        return math.prod(self.dims)

    @property
    def bits(self) -> int:
        """Bits of one element."""
        if self.dtype in _BITS:
            return _BITS[self.dtype]
        match = re.match(r"(?:bf|f|s|u)(\d+)", self.dtype)
        if match is None:
            raise ValueError(f"unknown element type {self.dtype!r}")
        return int(match[1])

    @property
    def bytes(self) -> int:
        """Bytes in memory, with the padding to whole tiles."""
        return math.prod(self._padded()) * self.bits // 8

    def _padded(self) -> list[int]:
        physical = [self.dims[axis] for axis in reversed(self.minor_to_major)] or list(self.dims)
        if not self.tile or 0 in physical:
            return physical
        physical = [1] * (len(self.tile) - len(physical)) + physical
        split = len(physical) - len(self.tile)
        tiled = [
            -(-size // tile) * tile for size, tile in zip(physical[split:], self.tile, strict=True)
        ]
        return physical[:split] + tiled


@dataclass(frozen=True, slots=True)
class Shape:
    """An instruction's result: one array, or a tuple of shapes."""

    array: Array | None
    parts: tuple["Shape", ...] = ()

    @property
    def leaves(self) -> tuple[Array, ...]:
        """All arrays in it, in order."""
        if self.array is not None:
            return (self.array,)
        return tuple(leaf for part in self.parts for leaf in part.leaves)

    @property
    def bytes(self) -> int:
        """Bytes of all arrays, in any memory."""
        return sum(leaf.bytes for leaf in self.leaves)

    @property
    def hbm_bytes(self) -> int:
        """Bytes of the arrays in HBM."""
        return sum(leaf.bytes for leaf in self.leaves if leaf.space == HBM)

    @property
    def elements(self) -> int:
        return sum(leaf.elements for leaf in self.leaves)


def read_shape(text: str, start: int = 0) -> tuple[Shape, int]:
    """The shape that begins at `start`, and the index behind it.

    Raises:
      ValueError: no shape begins there.
    """
    if text[start] != "(":
        match = _ARRAY.match(text, start)
        if match is None:
            raise ValueError(f"not a shape: {text[start : start + 40]!r}")
        return Shape(_array(*match.groups())), match.end()
    parts, at = [], start + 1
    while text[at] != ")":
        part, at = read_shape(text, at)
        parts.append(part)
        if text[at] == ",":
            at += 1
        while text[at] == " ":
            at += 1
    return Shape(None, tuple(parts)), at + 1


def _array(dtype: str, dims: str, layout: str | None) -> Array:
    sizes = tuple(int(size.lstrip("<=")) for size in dims.split(",") if size.strip())
    order, _, rest = (layout or "{}")[1:-1].partition(":")
    tile = re.search(r"T\(([\d,]*)\)", rest)
    space = re.search(r"S\((\d+)\)", rest)
    return Array(
        dtype,
        sizes,
        tuple(int(axis) for axis in order.split(",") if axis),
        tuple(int(size) for size in tile[1].split(",") if size) if tile else (),
        int(space[1]) if space else HBM,
    )
