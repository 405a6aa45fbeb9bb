"""Which blocks of keys the queries of a chunk see, tile by tile: some in the ring, some its own.

A tile of S queries sees the window before it: W/S blocks of keys and a part of one more.

    ring (W = 4S), to be written next in its block 2   chunk
    [ b0 | b1 | youngest, oldest | b3 ]                [ c0 | c1 | c2 ]

    tile 0 sees   2 3 0 1   c0
    tile 1        3 0 1     c0 c1      and 2
    tile 2        0 1       c0 c1 c2   and 2

The block in which the ring's end meets its beginning holds the oldest keys and the youngest, so a
tile that is past the oldest needs it all the same: last.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax


class Plan(NamedTuple):
    """The steps of every tile. Arguments and results are scalars unless it says otherwise."""

    tile: int  # queries of a tile and keys of a block; a power of two
    window: int
    tiles: int  # of the chunk

    @property
    def blocks(self) -> int:
        """Of the ring."""
        return self.window // self.tile

    @property
    def steps(self) -> int:
        """Of a tile. A chunk's first tile has no need of the last one."""
        return self.blocks + (2 if self.tiles > 1 else 1)

    def chunk_block(self, tile: Array, step: Array) -> Array:
        """The chunk's block; negative where the step is one of the ring's."""
        block = step - self.blocks + tile
        return jnp.where(step <= self.blocks, block, -1)

    def ring_block(self, tile: Array, step: Array, ring: Array) -> Array:
        """The ring's block, where the step is one of the ring's."""
        age = jnp.where(step > self.blocks, 0, jnp.minimum(tile + step, self.blocks - 1))
        block = lax.div(ring, self.tile) + age
        return jnp.where(block >= self.blocks, block - self.blocks, block)

    def holds(self, tile: Array, step: Array, ring: Array, filled: Array) -> Array:
        """Whether a ring's block holds keys that no other step sees."""
        ends_meet = (tile > 0) & (tile < self.blocks) & ((ring & (self.tile - 1)) > 0)
        first = self.ring_block(tile, step, ring) * self.tile
        return (first < filled) & ((step <= self.blocks) | ends_meet)

    def visible(
        self, tile: Array, in_ring: Array, slot: Array, token: Array, ring: Array, filled: Array
    ) -> Array:
        """Which keys each query sees of the ring's block from `slot` on, or of the chunk's."""
        shape = (self.tile, self.tile)
        query, key = (lax.broadcasted_iota(jnp.int32, shape, axis) for axis in range(2))
        query += tile * self.tile
        younger = ring - 1 - (slot + key)
        age = 1 + jnp.where(younger < 0, younger + self.window, younger)
        known = jnp.where(in_ring, age, 0) <= filled
        back = jnp.where(in_ring, age + query, query - (token + key))
        return known & (back >= 0) & (back <= self.window)
