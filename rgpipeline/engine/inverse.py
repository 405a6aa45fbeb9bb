"""Inverse transform sampling: one uniform number picks an index by its weight."""

import jax
import jax.numpy as jnp
from jax import lax


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
