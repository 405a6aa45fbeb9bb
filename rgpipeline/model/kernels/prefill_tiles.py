"""Attention tile by tile: which blocks of keys a tile sees, and the softmax over them.

`Plan`: a tile of S queries sees the window before it, which is W/S blocks of keys and a part of one
more; some are in the ring, some in the chunk.

    ring (W = 4S), to be written next in its block 2   chunk
    [ b0 | b1 | youngest, oldest | b3 ]                [ c0 | c1 | c2 ]

    tile 0 sees   2 3 0 1   c0
    tile 1        3 0 1     c0 c1      and 2
    tile 2        0 1       c0 c1 c2   and 2

The block in which the ring's end meets its beginning holds both the oldest and the youngest keys.
So a tile that is past the oldest still needs it, as its last block.

`Sums`: weights are relative to the highest score so far. When a block has a higher score, the sums
so far are scaled down.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.experimental.pallas import tpu as pltpu

from rgpipeline.model.layers.attention import MASKED


class Plan(NamedTuple):
    """The steps of every tile. Arguments and results are scalars unless stated otherwise."""

    tile: int  # queries of a tile and keys of a block; a power of two
    window: int
    tiles: int  # of the chunk

    @property
    def blocks(self) -> int:
        """Of the ring."""
        return self.window // self.tile

    @property
    def steps(self) -> int:
        """Of a tile. A chunk's first tile doesn't need the last one."""
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


LANES = 128
# MASKED is below this initial highest score, so a masked key weighs nothing, even in a block of
# which a query sees nothing.
_LOWEST = -1e30


class Sums(NamedTuple):
    """The sums so far, for each head; all float32, in VMEM.

    A column has the same value in all 128 lanes; with one lane, each use would broadcast it again.
    """

    total: Any  # [n s h], values by their weights
    highest: Any  # [n s 128], the highest score
    weight: Any  # [n s 128], the sum of the weights

    @classmethod
    def scratch(cls, heads: int, queries: int, size: int) -> "Sums":
        """The scratch memory for it."""
        column = pltpu.VMEM((heads, queries, LANES), jnp.float32)
        return cls(pltpu.VMEM((heads, queries, size), jnp.float32), column, column)

    def heads(self) -> Iterator[slice]:
        """The lanes of each head in [s n*h]."""
        count, _, size = self.total.shape
        return (slice(head * size, (head + 1) * size) for head in range(count))

    def begin(self) -> None:
        """Resets the sums."""
        self.total[...] = jnp.zeros_like(self.total)
        self.highest[...] = jnp.full_like(self.highest, _LOWEST)
        self.weight[...] = jnp.zeros_like(self.weight)

    def add(self, queries: Any, keys: Array, values: Array, visible: Array) -> None:
        """Adds a block of keys.

        Args:
            queries: [s n*h].
            keys, values: [k h], of the queries' dtype; weights are rounded to it.
            visible: bool [s k].
        """
        size = keys.shape[-1]
        turned = keys.T
        speed = size**-0.5 * math.log2(math.e)
        for head, lanes in enumerate(self.heads()):
            scores = jnp.where(visible, _product(queries[:, lanes], turned), MASKED)
            before = self.highest[head]
            most = jnp.maximum(before, jnp.max(scores, axis=-1, keepdims=True))
            weights = jnp.exp2((scores - _broadcast(most, scores.shape[1])) * speed)
            kept = jnp.exp2((before - most) * speed)
            added = jnp.sum(weights, axis=-1, keepdims=True)
            mixed = _product(weights.astype(values.dtype), values)
            self.weight[head] = kept * self.weight[head] + added
            self.total[head] = _broadcast(kept, size) * self.total[head] + mixed
            self.highest[head] = most

    def finish(self, mixed: Any) -> None:
        """Writes each query's output to `mixed` [1 s n*h]: zeros if it saw nothing."""
        for head, lanes in enumerate(self.heads()):
            # The highest score has weight 1, so a sum below 1 means that nothing was seen.
            share = 1.0 / jnp.maximum(self.weight[head], 1.0)
            of_head = self.total[head] * _broadcast(share, lanes.stop - lanes.start)
            mixed[0, :, lanes] = of_head.astype(mixed.dtype)


def _broadcast(column: Array, lanes: int) -> Array:
    """[s 128], the same in all lanes, to [s lanes]."""
    return jnp.concatenate([column] * (lanes // LANES), axis=1)


def _product(left: Array, right: Array) -> Array:
    """`left` [s k] by `right` [k j], in float32."""
    return lax.dot_general(
        left, right, (((1,), (0,)), ((), ())), preferred_element_type=jnp.float32
    )
