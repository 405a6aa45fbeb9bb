"""The most probable token of each row."""

import math

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
