"""The decode attention kernel's copies: rings into VMEM, and the new tokens back.

A ring of 16 bits is two arrays, keys and values; one of 8 bits has a third, their scales. Each is
fetched in chunks of slots, and its memory tile with the new token is written back.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import jax.numpy as jnp
import ml_dtypes
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.typing import DTypeLike

from rgpipeline.model.griffin_state import Rings

CHUNK = 512  # slots of a ring that are fetched together
_TILE_BYTES = 32  # per column of a memory tile, the smallest unit of a write: 16 rows of bfloat16
_LANES = 128


class Refs(NamedTuple):
    """The kernel's operands, results and buffers; buffers in VMEM have two halves, used in turn."""

    ring: Any  # int32 [b], in SMEM
    count: Any  # int32 [b], in SMEM: slots that hold a token, or -1 where a row is not active
    new_scales: (
        Any  # float32 [2b], in SMEM: of each row's new key and value; None if there are none
    )
    queries: Any  # [g n h]
    new: Any  # [g 2 h]
    mixed: Any  # [g n h]
    rings: tuple[Any, ...]  # [b w h] twice and perhaps [b 2 w], in HBM
    buffers: tuple[Any, ...]  # [2 g w h] or [2 g 2 w], the rings of two groups
    tiles: tuple[Any, ...]  # [2 g t h] or [2 g 2 t], to be written back
    reads: Any  # semaphores [2 3], of keys, values and scales
    writes: Any  # semaphores [2 3]

    @property
    def group(self) -> int:
        """Sequences per step."""
        members: int = self.queries.shape[0]
        return members

    @property
    def window(self) -> int:
        """Slots of a ring."""
        slots: int = self.buffers[0].shape[2]
        return slots


def scratch(state: Rings, group: int) -> list[Any]:
    """Memory for the last fields of `Refs`: buffers, tiles, semaphores."""
    _, window, size = state.keys.shape
    rows = _TILE_BYTES // state.keys.dtype.itemsize
    rings = [ring.dtype for ring in (state.keys, state.values)]
    buffers = [pltpu.VMEM((2, group, window, size), dtype) for dtype in rings]
    tiles = [pltpu.VMEM((2, group, rows, size), dtype) for dtype in rings]
    if len(state) > len(rings):
        buffers.append(pltpu.VMEM((2, group, 2, window), jnp.float32))
        tiles.append(pltpu.VMEM((2, group, 2, _LANES), jnp.float32))
    semaphores = pltpu.SemaphoreType.DMA((2, 3))
    return [*buffers, *tiles, semaphores, semaphores]


def fetch(refs: Refs, group: Array) -> None:
    """Starts copying a group's rings into VMEM."""
    for needed, copies in _reads(refs, group):

        @pl.when(needed)
        def start(copies: list[Any] = copies) -> None:
            for copy in copies:
                copy.start()


def finish_fetch(refs: Refs, group: Array) -> None:
    """Waits for the copies of `fetch`."""
    for needed, copies in _reads(refs, group):

        @pl.when(needed)
        def wait(copies: list[Any] = copies) -> None:
            for copy in copies:
                copy.wait()


def _reads(refs: Refs, group: Array) -> Iterator[tuple[Array, list[Any]]]:
    """Each chunk of a group's rings: whether to read it, and its copies.

    A chunk that isn't read leaves stale data in the buffer, perhaps of another row. Stale buffers
    get weight 0, so they must be finite (0 · NaN = NaN): hence the first groups read all chunks,
    and rings hold finite numbers only (see `clip_finite`).
    """
    half = group & 1
    for member, first in product(range(refs.group), range(0, refs.window, CHUNK)):
        row, slots = group * refs.group + member, pl.ds(first, CHUNK)
        copies = [
            pltpu.make_async_copy(
                ring.at[row, *_index(which, slots)],
                refs.buffers[which].at[half, member, *_index(which, slots)],
                refs.reads.at[half, which],
            )
            for which, ring in enumerate(refs.rings)
        ]
        yield (refs.count[row] > first) | (group < 2), copies


def _index(which: int, slots: Any) -> tuple[Any, ...]:
    """Some slots of one sequence's keys or values, [w h], or of their scales, [2 w]."""
    return (slots,) if which < 2 else (slice(None), slots)


def write(refs: Refs, group: Array, member: int) -> None:
    """Starts writing the tiles that contain the row's new token."""
    half, row = group & 1, group * refs.group + member
    for which, tiles in enumerate(refs.tiles):
        tile, buffer = tiles.at[half, member], refs.buffers[which]
        slots = _slots_of_tile(refs, which, row)
        old = buffer[half, member, *_index(which, slots)]
        slot = lax.broadcasted_iota(jnp.int32, tile.shape, 0 if which < 2 else 1)
        here = slot == (refs.ring[row] & (slots.size - 1))
        tile[...] = _with_new(refs, which, row, member, old, here)

    @pl.when(refs.count[row] >= 0)
    def start() -> None:
        for copy in _writes(refs, group, member):
            copy.start()


def _with_new(refs: Refs, which: int, row: Array, member: int, old: Array, here: Array) -> Array:
    """A tile with the new token where `here` is true."""
    if which == 2:
        is_key = lax.broadcasted_iota(jnp.int32, here.shape, 0) == 0
        new = jnp.where(is_key, refs.new_scales[2 * row], refs.new_scales[2 * row + 1])
        return jnp.where(here, new, old)
    new = refs.new[member, which][None]
    if old.dtype == jnp.int8:
        return jnp.where(here, new, old.astype(jnp.int32)).astype(jnp.int8)
    new = clip_finite(new.astype(jnp.float32), old.dtype)
    return jnp.where(here, new, old.astype(jnp.float32)).astype(old.dtype)


def clip_finite(new: Array, dtype: DTypeLike) -> Array:
    """New keys or values, float32, as finite numbers of the rings' dtype (see `_reads`)."""
    largest = float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]
    return jnp.where(new != new, 0.0, jnp.clip(new, -largest, largest))


def finite(new: Array) -> Array:
    """`clip_finite` of new keys or values in the rings' dtype, outside of a kernel."""
    return clip_finite(new.astype(jnp.float32), new.dtype).astype(new.dtype)


def finish_write(refs: Refs, group: Array) -> None:
    """Waits until a group's tiles are written."""
    for member in range(refs.group):

        @pl.when(refs.count[group * refs.group + member] >= 0)
        def wait(member: int = member) -> None:
            for copy in _writes(refs, group, member):
                copy.wait()


def _writes(refs: Refs, group: Array, member: int) -> list[Any]:
    half, row = group & 1, group * refs.group + member
    return [
        pltpu.make_async_copy(
            refs.tiles[which].at[half, member],
            ring.at[row, *_index(which, _slots_of_tile(refs, which, row))],
            refs.writes.at[half, which],
        )
        for which, ring in enumerate(refs.rings)
    ]


def _slots_of_tile(refs: Refs, which: int, row: Array) -> Any:
    """The slots of the tile that contains the row's new token."""
    slots = refs.tiles[which].shape[2 if which < 2 else 3]
    return pl.ds(pl.multiple_of(refs.ring[row] & -slots, slots), slots)
