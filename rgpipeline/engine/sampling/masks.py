"""Masks over the vocabulary: the tokens that each slot's grammar allows next.

A mask is a row of bits in int32 words, as `grammar_protocol` packs them. Slots without a grammar
have ones everywhere, and their logits keep every bit.
"""

import jax
import jax.numpy as jnp

from rgpipeline.engine.grammar_protocol import MASK_BITS
from rgpipeline.engine.sampling.distribution import LOWEST

# Allowed tokens stay above those that are not, even if bans or a bias put them out of reach, too.
_FLOOR = LOWEST / 2


def apply_masks(logits: jax.Array, masks: jax.Array) -> jax.Array:
    """Logits [s, v] with tokens that are not allowed out of reach; masks are [s, w].

    If bans (`min_tokens`) leave nothing of what the mask allows, the mask decides.
    """
    rows, vocab = logits.shape
    bits = jnp.arange(MASK_BITS, dtype=jnp.int32)
    allowed = ((masks[:, :, None] >> bits) & 1).reshape(rows, -1)[:, :vocab] != 0
    floored = is_constrained(masks)[:, None] & (logits < _FLOOR)
    return jnp.where(allowed, jnp.where(floored, _FLOOR, logits), LOWEST)


def is_constrained(masks: jax.Array) -> jax.Array:
    """Slots whose mask leaves something out, bool [s]."""
    return jnp.any(masks != -1, axis=-1)


def is_allowed(masks: jax.Array, token: jax.Array) -> jax.Array:
    """Whether each slot's mask allows its token, int32 [s] to bool [s]."""
    word = jnp.take_along_axis(masks, token[:, None] // MASK_BITS, axis=1, mode="clip")[:, 0]
    return (word >> (token % MASK_BITS)) & 1 != 0
