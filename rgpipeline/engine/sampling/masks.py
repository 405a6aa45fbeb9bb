"""Masks over the vocabulary: the tokens that each slot's grammar allows next.

A mask is a row of bits, as `grammar_protocol` packs them. On the device they are in bytes, uint8
[s, b], the lowest bit first. Slots without a grammar have ones everywhere, and their logits keep
every bit.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

from rgpipeline.engine.sampling.distribution import LOWEST
from rgpipeline.engine.sampling.draw import fusion_barrier

BITS = 8
_EVERYTHING = 255  # a byte with all bits set

# Allowed tokens stay above those that are not, even if bans or a bias put them out of reach, too.
_FLOOR = LOWEST / 2


def as_bytes(masks: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Masks of the host, int32 [s, w], as the device gets them: [s, 4 w]."""
    return np.ascontiguousarray(masks, "<i4").view(np.uint8)


def beside_logits(masks: jax.Array) -> jax.Array:
    """The same masks, in memory as a step's logits are.

    On a CPU these have the vocabulary as the first axis. A loop that reads bytes in another order
    beside them gets no vector instructions.
    """

    def by_byte(masks: jax.Array) -> jax.Array:
        unused = jnp.zeros(masks.shape[::-1], masks.dtype)
        return fusion_barrier(jnp.any(masks != 0), jnp.transpose, masks, otherwise=unused).T

    placed: jax.Array = lax.platform_dependent(masks, cpu=by_byte, default=lambda masks: masks)
    return placed


def apply_masks(logits: jax.Array, masks: jax.Array) -> jax.Array:
    """Logits [s, v] with tokens that are not allowed out of reach.

    If bans (`min_tokens`) leave nothing of what the mask allows, the mask decides.
    """
    return mask_logits(logits.T, masks.T, is_constrained(masks)).T


def mask_logits(logits: jax.Array, masks: jax.Array, constrained: jax.Array) -> jax.Array:
    """Of logits [v, s] and masks [b, s]."""
    vocab, rows = logits.shape
    bits = jnp.arange(BITS, dtype=jnp.uint8)[:, None]
    allowed = ((masks[:, None, :] >> bits) & 1).reshape(-1, rows)[:vocab]
    return choose_allowed(logits, allowed, constrained)


def choose_allowed(logits: jax.Array, allowed: jax.Array, constrained: jax.Array) -> jax.Array:
    """Of logits [..., s] and bits of the same shape."""
    floored = constrained & (logits < _FLOOR)
    return jnp.where(allowed != 0, jnp.where(floored, _FLOOR, logits), LOWEST)


def is_constrained(masks: jax.Array) -> jax.Array:
    """Slots whose mask leaves something out, bool [s]."""
    return jnp.any(masks != _EVERYTHING, axis=-1)


def is_allowed(masks: jax.Array, token: jax.Array) -> jax.Array:
    """Whether each slot's mask allows its token, int32 [s] to bool [s]."""
    byte = jnp.take_along_axis(masks, token[:, None] // BITS, axis=1, mode="clip")[:, 0]
    return (byte.astype(jnp.int32) >> (token % BITS)) & 1 != 0


def masks_of_part(masks: jax.Array, first: jax.Array, tokens: int) -> jax.Array:
    """The masks of a part of the vocabulary, uint8 [s, b], its first token in the lowest bit.

    Args:
      masks: of the whole vocabulary.
      first: the part's first token, int32 [].
      tokens: of the part.
    """
    padded = jnp.pad(masks, ((0, 0), (0, 1)))
    part = lax.dynamic_slice_in_dim(padded, first // BITS, -(-tokens // BITS) + 1, 1)
    shift = (first % BITS).astype(jnp.uint8)
    low = lax.shift_right_logical(part[:, :-1], jnp.broadcast_to(shift, part[:, 1:].shape))
    high = lax.shift_left(part[:, 1:], jnp.broadcast_to(BITS - shift, part[:, 1:].shape))
    return low | high  # a shift by 8 leaves nothing
