"""The most probable token of each row."""

import math

import jax
import jax.numpy as jnp
from jax import lax

_BLOCK = 256


def argmax(values: jax.Array) -> jax.Array:
    """First index of the largest value of each row, [s v] to int32 [s].

    -1 for a row in which NaN is, or whose largest value is infinite.
    """
    first: jax.Array = lax.platform_dependent(values, cpu=_by_block, default=_first_largest)
    return first


def _by_block(values: jax.Array) -> jax.Array:
    """The first block with the largest value, then the first place in it.

    Two plain reductions of whole rows take four passes over them on a CPU, this takes one. The
    vocabulary is the first axis, as a decode step's logits lie in memory.
    """
    rows, vocab = values.shape
    size = math.gcd(vocab, _BLOCK)
    blocks = values.T.reshape(-1, size, rows)
    block = _first_largest(jnp.max(blocks, axis=1).T)
    inside = jnp.take_along_axis(blocks, jnp.maximum(block, 0)[None, None], axis=0)[0]
    return jnp.where(block < 0, -1, block * size + _first_largest(inside.T))


def _first_largest(values: jax.Array) -> jax.Array:
    """By two plain reductions (XLA's CPU argmax is scalar)."""
    largest = jnp.max(values, axis=-1, keepdims=True)
    index = lax.broadcasted_iota(jnp.int32, values.shape, 1)
    first = jnp.min(jnp.where(values >= largest, index, values.shape[-1] - 1), axis=-1)
    return jnp.where(jnp.isfinite(largest[:, 0]), first, -1)
