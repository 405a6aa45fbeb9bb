"""Reductions over the vocabulary: the most probable token, with or without a mask; a softmax's sum.

XLA's CPU backend makes scalar code of a reduction over the axis that is last in memory. There the
vocabulary is cut into blocks, and reduced as the first axis, in which order the products of up to
128 rows leave their logits.
"""

import math
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rgpipeline.engine.sampling.draw import fusion_barrier
from rgpipeline.engine.sampling.masks import (
    BITS,
    apply_masks,
    choose_allowed,
    is_constrained,
    mask_logits,
)

_BLOCK = 256


def argmax(values: jax.Array) -> jax.Array:
    """First index of the largest value of each row, [s v] to int32 [s].

    -1 for a row that contains NaN, or whose largest value is infinite.
    """
    return largest(values)[1]


def largest(values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Largest value of each row, [s v] to [s], and what `argmax` returns."""
    found: tuple[jax.Array, jax.Array] = lax.platform_dependent(
        values, cpu=_by_block, default=_plain
    )
    return found


def sum_exp(values: jax.Array, most: jax.Array) -> jax.Array:
    """Sum of exp(value - most) of each row, [s v] and [s] to [s]."""

    def plain(values: jax.Array, most: jax.Array) -> jax.Array:
        return jnp.sum(jnp.exp(values - most[:, None]), axis=-1)

    total: jax.Array = lax.platform_dependent(values, most, cpu=_sum_exp_by_block, default=plain)
    return total


def allowed_argmax(logits: jax.Array, masks: jax.Array) -> jax.Array:
    """`argmax(apply_masks(logits, masks))`; on a CPU, without writing masked logits to memory."""

    def plain(logits: jax.Array, masks: jax.Array) -> jax.Array:
        return argmax(apply_masks(logits, masks))

    by_block = plain if _block_size(logits.shape[1]) % BITS else _allowed_by_block
    first: jax.Array = lax.platform_dependent(logits, masks, cpu=by_block, default=plain)
    return first


def _by_block(values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The first block with the largest value, then the first index of that value in the block.

    Two plain reductions of whole rows take four passes over them on a CPU; this takes one.
    """
    blocks = _blocks(values)
    most = _largest_of_blocks(blocks)
    block = _first_largest(most)
    first = _first_in_block(most, block, _of_block(blocks, block))
    return jnp.max(most, axis=-1), first


def _sum_exp_by_block(values: jax.Array, most: jax.Array) -> jax.Array:
    return jnp.sum(jnp.sum(jnp.exp(_blocks(values) - most), axis=1), axis=0)


def _allowed_by_block(logits: jax.Array, masks: jax.Array) -> jax.Array:
    """As `_by_block`, the largest of the eight tokens of each byte first.

    XLA's CPU backend makes slow code of a reduction that is fused with anything, so this part is
    without one, and in a program of its own.
    """
    rows, vocab = logits.shape
    constrained, size = is_constrained(masks), _block_size(vocab)
    operands, unused = (logits, masks, constrained), jnp.zeros((vocab // BITS, rows), jnp.float32)
    needed = jnp.any(masks != 0)
    eights = fusion_barrier(needed, _largest_of_eights, *operands, otherwise=unused)
    most = _largest_of_blocks(eights.reshape(-1, size // BITS, rows))
    block = _first_largest(most)
    inside = _of_block(_blocks(logits), block)
    allowed = _of_block(masks.T[: vocab // BITS].reshape(-1, size // BITS, rows), block)
    return _first_in_block(most, block, mask_logits(inside, allowed, constrained))


def _largest_of_eights(logits: jax.Array, masks: jax.Array, constrained: jax.Array) -> jax.Array:
    """The largest allowed logit of the tokens of each byte, [s v] to [b s]."""
    eights = logits.T.reshape(-1, BITS, logits.shape[0])
    bits = masks.T[: eights.shape[0]]
    each = (choose_allowed(eights[:, bit], (bits >> bit) & 1, constrained) for bit in range(BITS))
    return reduce(_larger, each)


def _blocks(values: jax.Array) -> jax.Array:
    """Values by block of the vocabulary, [s v] to [b t s]."""
    return values.T.reshape(-1, _block_size(values.shape[1]), values.shape[0])


def _block_size(vocab: int) -> int:
    return math.gcd(vocab, _BLOCK)


def _largest_of_blocks(blocks: jax.Array) -> jax.Array:
    """The largest value of each block, [b t s] to [s b]."""
    return jnp.asarray(lax.reduce(blocks, np.float32(-np.inf), _larger, (1,))).T


def _of_block(blocks: jax.Array, block: jax.Array) -> jax.Array:
    """Each row's values in its block, [b t s] and [s] to [t s]."""
    return jnp.take_along_axis(blocks, block[None, None], axis=0)[0]


def _first_in_block(most: jax.Array, block: jax.Array, inside: jax.Array) -> jax.Array:
    """What `argmax` returns, from the largest values of all blocks and those in one, [t s]."""
    finite = jnp.all(most < jnp.inf, axis=-1) & jnp.any(most > -jnp.inf, axis=-1)
    return jnp.where(finite, block * inside.shape[0] + _first_largest(inside.T), -1)


def _larger(one: jax.Array, other: jax.Array) -> jax.Array:
    """The larger of two; NaN if one of them is. XLA's CPU backend may ignore NaN in a maximum."""
    return jnp.where((one >= other) | (one != one), one, other)


def _plain(values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """By reductions of whole rows."""
    most = jnp.max(values, axis=-1)
    return most, jnp.where(jnp.isfinite(most), _first_largest(values), -1)


def _first_largest(values: jax.Array) -> jax.Array:
    """By two plain reductions (XLA's CPU argmax is scalar)."""
    largest = jnp.max(values, axis=-1, keepdims=True)
    index = lax.broadcasted_iota(jnp.int32, values.shape, 1)
    return jnp.min(jnp.where(values >= largest, index, values.shape[-1] - 1), axis=-1)
