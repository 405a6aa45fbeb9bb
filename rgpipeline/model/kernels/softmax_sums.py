"""Softmax attention of a tile of queries that sees its keys block by block.

Weights are taken relative to the highest score so far; where a block brings a higher one, what was
summed before it is scaled down.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.experimental.pallas import tpu as pltpu

LANES = 128
# What can't be seen scores less than the highest score is to begin with: so it weighs nothing,
# even in a block of which a query sees nothing at all.
_MASKED, _LOWEST = -2.3819763e38, -1e30


class Sums(NamedTuple):
    """The sums so far, for each head; all float32, in VMEM.

    Columns are alike in all 128 lanes: of one lane, they would be spread out again at every use.
    """

    total: Any  # [n s h], values by their weights
    highest: Any  # [n s 128], the highest score
    weight: Any  # [n s 128], the sum of the weights

    @classmethod
    def scratch(cls, heads: int, queries: int, size: int) -> "Sums":
        """The memory that it takes."""
        column = pltpu.VMEM((heads, queries, LANES), jnp.float32)
        return cls(pltpu.VMEM((heads, queries, size), jnp.float32), column, column)

    def heads(self) -> Iterator[slice]:
        """Where each head stands in [s n*h]."""
        count, _, size = self.total.shape
        return (slice(head * size, (head + 1) * size) for head in range(count))

    def begin(self) -> None:
        """Nothing was seen yet."""
        self.total[...] = jnp.zeros_like(self.total)
        self.highest[...] = jnp.full_like(self.highest, _LOWEST)
        self.weight[...] = jnp.zeros_like(self.weight)

    def add(self, queries: Any, keys: Array, values: Array, visible: Array) -> None:
        """Takes in a block of keys.

        Args:
            queries: [s n*h].
            keys, values: [k h], of the queries' dtype; weights are rounded to it.
            visible: bool [s k].
        """
        size = keys.shape[-1]
        turned = keys.T
        speed = size**-0.5 * math.log2(math.e)
        for head, lanes in enumerate(self.heads()):
            scores = jnp.where(visible, _product(queries[:, lanes], turned), _MASKED)
            before = self.highest[head]
            most = jnp.maximum(before, jnp.max(scores, axis=-1, keepdims=True))
            weights = jnp.exp2((scores - _spread(most, scores.shape[1])) * speed)
            kept = jnp.exp2((before - most) * speed)
            added = jnp.sum(weights, axis=-1, keepdims=True)
            mixed = _product(weights.astype(values.dtype), values)
            self.weight[head] = kept * self.weight[head] + added
            self.total[head] = _spread(kept, size) * self.total[head] + mixed
            self.highest[head] = most

    def finish(self, mixed: Any) -> None:
        """What each query gathered, to `mixed` [1 s n*h]: zeros where it saw nothing."""
        for head, lanes in enumerate(self.heads()):
            # The highest score of all weighs 1, so a sum below 1 is that of nothing.
            share = 1.0 / jnp.maximum(self.weight[head], 1.0)
            of_head = self.total[head] * _spread(share, lanes.stop - lanes.start)
            mixed[0, :, lanes] = of_head.astype(mixed.dtype)


def _spread(column: Array, lanes: int) -> Array:
    """[s 128], alike in all lanes, to [s lanes]."""
    return jnp.concatenate([column] * (lanes // LANES), axis=1)


def _product(left: Array, right: Array) -> Array:
    """`left` [s k] by `right` [k j], in float32."""
    return lax.dot_general(
        left, right, (((1,), (0,)), ((), ())), preferred_element_type=jnp.float32
    )
