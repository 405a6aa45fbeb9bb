"""The most probable token of each row."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_BLOCK = 256


def argmax(values: jax.Array) -> jax.Array:
    """First index of the largest value of each row, [s v] to int32 [s].

    -1 for a row in which NaN is, or whose largest value is infinite.
    """
    first: jax.Array = lax.platform_dependent(values, cpu=_by_block, default=_plain)
    return first


def _by_block(values: jax.Array) -> jax.Array:
    """The first block with the largest value, then the first place in it.

    Two plain reductions of whole rows take four passes over them on a CPU, this takes one. The
    vocabulary is the first axis, as a decode step's logits lie in memory.
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
    """The larger of two; NaN if one of them is. XLA's CPU backend may leave it out of a maximum."""
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


def inverse(weight: jax.Array, uniform: jax.Array) -> jax.Array:
    """Index i with probability weight[i] / sum; never one of weight zero. [s, m], [s] -> [s]."""
    cumulative = jnp.cumsum(weight, axis=-1)
    below = cumulative <= uniform[:, None] * cumulative[:, -1:]
    reached = jnp.sum(below, axis=-1, dtype=jnp.int32, keepdims=True)
    index = lax.broadcasted_iota(jnp.int32, weight.shape, 1)
    possible = weight > 0
    last = jnp.max(jnp.where(possible, index, 0), axis=-1)
    # Sums round, so the place reached may be one whose weight is zero: the next one is meant.
    after = jnp.min(jnp.where(possible & (index >= reached), index, weight.shape[-1]), axis=-1)
    return jnp.minimum(after, last)


def fenced(
    needed: jax.Array, body: Callable[..., jax.Array], *operands: Any, otherwise: jax.Array
) -> jax.Array:
    """`body(*operands)`, computed to the same bits in whatever program it is part of.

    On the CPU only the branches of a conditional are compiled each by itself: barriers are gone
    before fusion there. Elsewhere a barrier holds, and a conditional would keep the compiler from
    overlapping what is around it.

    Args:
      needed: bool scalar that isn't known when the program is compiled; where it is False the
        result may be `otherwise`.
      body: closes over nothing that is traced.
      otherwise: of the result's shape and dtype.
    """

    def wall(needed: jax.Array, otherwise: jax.Array, *operands: Any) -> jax.Array:
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
        needed, otherwise, *operands, cpu=wall, default=barrier
    )
    return chosen
