"""Log-probabilities under a softmax whose logits are divided among chips."""

import jax
import jax.numpy as jnp


def share_of_softmax(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """What one chip knows of each row's softmax.

    Args:
      logits: float32 [t, v], this chip's part of the vocabulary.
      targets: int32 [t], the token asked for; outside [0, v) it is another chip's.

    Returns:
      float32 [3, t]: the largest logit, the sum of exp(logit - largest), and the target's logit,
      or minus infinity where it is not here.
    """
    largest = jnp.max(logits, axis=-1)
    total = jnp.sum(jnp.exp(logits - largest[:, None]), axis=-1)
    here = (targets >= 0) & (targets < logits.shape[-1])
    picked = jnp.take_along_axis(logits, targets[:, None], axis=-1, mode="clip")[:, 0]
    return jnp.stack([largest, total, jnp.where(here, picked, -jnp.inf)])


def joined_softmax(shares: jax.Array) -> jax.Array:
    """The targets' log-probabilities, float32 [t], from all chips' shares, [m, 3, t]."""
    largest, total, picked = (shares[:, which] for which in range(3))
    highest = jnp.max(largest, axis=0)
    whole = jnp.sum(total * jnp.exp(largest - highest), axis=0)
    return jnp.max(picked, axis=0) - highest - jnp.log(whole)
