"""One token of each row: the most probable one, or one drawn; and the barrier around such code."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.random import threefry_2x32

from rgpipeline.model.griffin_state import Position

_BLOCK = 256


def argmax(values: jax.Array) -> jax.Array:
    """First index of the largest value of each row, [s v] to int32 [s].

    -1 for a row that contains NaN, or whose largest value is infinite.
    """
    first: jax.Array = lax.platform_dependent(values, cpu=_by_block, default=_plain)
    return first


def _by_block(values: jax.Array) -> jax.Array:
    """The first block with the largest value, then the first index of that value in the block.

    Two plain reductions of whole rows take four passes over them on a CPU; this takes one. The
    vocabulary is the first axis, because a decode step's logits are in memory in that order.
    """
    rows, vocab = values.shape
    size = math.gcd(vocab, _BLOCK)
    blocks = values.T.reshape(-1, size, rows)
    most = lax.reduce(blocks, np.float32(-np.inf), _larger, (1,)).T  # [s b]
    block = _first_largest(most)
    inside = jnp.take_along_axis(blocks, block[None, None], axis=0)[0]
    finite = jnp.all(most < jnp.inf, axis=-1) & jnp.any(most > -jnp.inf, axis=-1)
    return jnp.where(finite, block * size + _first_largest(inside.T), -1)


def _larger(one: jax.Array, other: jax.Array) -> jax.Array:
    """The larger of two; NaN if one of them is. XLA's CPU backend may ignore NaN in a maximum."""
    return jnp.where((one >= other) | (one != one), one, other)


def _plain(values: jax.Array) -> jax.Array:
    """By reductions of whole rows."""
    largest = jnp.max(values, axis=-1)
    return jnp.where(jnp.isfinite(largest), _first_largest(values), -1)


def _first_largest(values: jax.Array) -> jax.Array:
    """By two plain reductions (XLA's CPU argmax is scalar)."""
    largest = jnp.max(values, axis=-1, keepdims=True)
    index = lax.broadcasted_iota(jnp.int32, values.shape, 1)
    return jnp.min(jnp.where(values >= largest, index, values.shape[-1] - 1), axis=-1)


def draw(scaled: jax.Array, words: jax.Array, position: Position) -> jax.Array:
    """One token of each row from softmax(scaled), [s v] to int32 [s].

    By inverse transform in two stages, a block of the vocabulary and then a token in it: a draw
    costs one pass over the logits and two random words, not noise for every token.
    """
    rows, vocab = scaled.shape
    blocks = -(-vocab // _BLOCK)
    weight = jnp.exp(scaled - jnp.max(scaled, axis=-1, keepdims=True))
    weight = jnp.pad(weight, ((0, 0), (0, blocks * _BLOCK - vocab))).reshape(rows, blocks, _BLOCK)
    uniform = _uniforms(words, position)
    block = inverse_cdf(jnp.sum(weight, axis=-1), uniform[:, 0])
    inside = jnp.take_along_axis(weight, block[:, None, None], axis=1)[:, 0]
    return block * _BLOCK + inverse_cdf(inside, uniform[:, 1])


def _uniforms(words: jax.Array, position: Position) -> jax.Array:
    """Two numbers in [0, 1) for each slot: Threefry-2x32 of its words and its position."""

    def one(key: jax.Array, high: jax.Array, low: jax.Array) -> jax.Array:
        return jnp.asarray(threefry_2x32(key, jnp.stack([high, low]).astype(jnp.uint32)))

    bits = jax.vmap(one)(words, position.high, position.low)
    return jnp.asarray((bits >> 8).astype(jnp.float32) * jnp.float32(2.0**-24))


def inverse_cdf(weight: jax.Array, uniform: jax.Array) -> jax.Array:
    """Index i with probability weight[i] / sum; never one of weight zero. [s, m], [s] -> [s]."""
    cumulative = jnp.cumsum(weight, axis=-1)
    below = cumulative <= uniform[:, None] * cumulative[:, -1:]
    reached = jnp.sum(below, axis=-1, dtype=jnp.int32, keepdims=True)
    index = lax.broadcasted_iota(jnp.int32, weight.shape, 1)
    possible = weight > 0
    last = jnp.max(jnp.where(possible, index, 0), axis=-1)
    # Sums round, so the index reached may have weight zero: then the next one with a weight.
    after = jnp.min(jnp.where(possible & (index >= reached), index, weight.shape[-1]), axis=-1)
    return jnp.minimum(after, last)


def fusion_barrier(
    needed: jax.Array, body: Callable[..., jax.Array], *operands: Any, otherwise: jax.Array
) -> jax.Array:
    """`body(*operands)`, with the same bits in whatever program it is part of.

    XLA fuses neighbouring operations, and contracts `a * b - c` into one rounding where it can. So
    one formula may round differently in two programs that use its result differently, and a row
    would get other bits because of what its neighbours ask for.

    On the CPU only the branches of a conditional are compiled separately: XLA removes barriers
    before it fuses. Elsewhere a barrier works, and a conditional would keep the compiler from
    overlapping it with the operations around it.

    Args:
      needed: bool scalar that isn't known when the program is compiled; where it is False the
        result may be `otherwise`.
      body: closes over nothing that is traced.
      otherwise: of the result's shape and dtype.
    """

    def conditional(needed: jax.Array, otherwise: jax.Array, *operands: Any) -> jax.Array:
        chosen: jax.Array = lax.cond(
            needed,
            lambda _, *operands: body(*operands),
            lambda otherwise, *_: otherwise,
            otherwise,
            *operands,
        )
        return chosen

    def barrier(_: jax.Array, __: jax.Array, *operands: Any) -> jax.Array:
        operands = lax.optimization_barrier(operands)  # type: ignore[no-untyped-call]
        return jnp.asarray(
            lax.optimization_barrier(body(*operands))  # type: ignore[no-untyped-call]
        )

    chosen: jax.Array = lax.platform_dependent(
        needed, otherwise, *operands, cpu=conditional, default=barrier
    )
    return chosen
