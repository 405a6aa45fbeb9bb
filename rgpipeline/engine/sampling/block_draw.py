"""Draws from the block of the vocabulary that the model's head chose (`model.kernels.head`).

For rows whose settings don't change the model's distribution. The random bits come from the same
counter as the sampler's (draw words, position), so a row's token depends on nothing else.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.random import threefry_2x32

from rgpipeline.engine.sampling.draw import inverse_cdf
from rgpipeline.model.griffin_state import Position
from rgpipeline.model.kernels.head import Choice

# A draw at a lower temperature is greedy: exp((x - largest) / temperature) is 0 or 1 long before.
_MIN_TEMPERATURE = 1e-30


def rate_of(temperature: jax.Array) -> jax.Array:
    """One over the temperature; 0 for greedy rows. float32 [s] to [s]."""
    positive = temperature > 0
    return jnp.where(positive, 1.0 / jnp.maximum(temperature, _MIN_TEMPERATURE), 0.0)


def noise(words: jax.Array, position: Position, blocks: int) -> tuple[jax.Array, jax.Array]:
    """Random numbers for one draw of each row.

    Args:
      words: uint32 [s, 2], the row's.
      position: of the token drawn.
      blocks: how many there are to choose from.

    Returns:
      Gumbel variates, float32 [s, blocks], and uniform ones in [0, 1), float32 [s].
    """
    wanted = jnp.arange(blocks + 1 + (blocks + 1) % 2, dtype=jnp.uint32)

    def one(key: jax.Array, high: jax.Array, low: jax.Array) -> jax.Array:
        key = threefry_2x32(key, jnp.stack([high, low]).astype(jnp.uint32))
        return jnp.asarray(threefry_2x32(key, wanted))

    bits = jax.vmap(one)(words, position.high, position.low)
    # Small numbers keep their digits, and the smallest win: -log of a number near 1 has few digits.
    small = jnp.minimum((bits[:, :blocks].astype(jnp.float32) + 0.5) * 2.0**-32, 1 - 2.0**-24)
    uniform = (bits[:, blocks] >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)
    return -jnp.log(-jnp.log1p(-small)), uniform


def token_of(
    choice: Choice, rate: jax.Array, uniform: jax.Array, first: jax.Array | int = 0
) -> jax.Array:
    """Each row's token in the block chosen for it: int32 [s]; -1 if the logits are not finite.

    Args:
      choice: what the head chose.
      rate: as given to the head.
      uniform: float32 [s], in [0, 1).
      first: int32 scalar, the first token of this chip's part of the vocabulary.
    """
    logits = choice.logits
    largest = jnp.max(logits, axis=-1, keepdims=True)
    weight = jnp.exp((logits - largest) * rate[:, None])
    index = lax.broadcasted_iota(jnp.int32, logits.shape, 1)
    greedy = jnp.min(jnp.where(logits >= largest, index, logits.shape[-1] - 1), axis=-1)
    inside = jnp.where(rate > 0, inverse_cdf(weight, uniform), greedy)
    # If any block has NaN or infinity in it, the head chooses such a block.
    finite = jnp.all(logits < jnp.inf, axis=-1)
    return jnp.where(finite, first + choice.block * logits.shape[-1] + inside, -1)


def local_candidate(
    choice: Choice, rate: jax.Array, gumbel: jax.Array, token: jax.Array
) -> jax.Array:
    """One chip's candidate for each row, where the vocabulary is divided among chips.

    Args:
      choice: what the head chose in this chip's part.
      rate: as given to the head.
      gumbel: as given to the head, float32 [s, blocks].
      token: int32 [s], drawn from the block chosen; -1 if its logits are not finite.

    Returns:
      int32 [3, s], for `reduce_candidates`: the bits of the block's largest logit, those of the
      bonus that the head adds to it to compare blocks, and the token.
    """
    most = jnp.max(choice.logits, axis=-1)
    weight = jnp.sum(jnp.exp((choice.logits - most[:, None]) * rate[:, None]), axis=-1)
    mine = jnp.take_along_axis(gumbel, choice.block[:, None], axis=1)[:, 0]
    bonus = jnp.where(rate > 0, jnp.log(weight) + mine, 0.0)
    floats = lax.bitcast_convert_type(jnp.stack([most, bonus]), jnp.int32)
    return jnp.concatenate([floats, token[None]])


def reduce_candidates(candidates: jax.Array, rate: jax.Array) -> jax.Array:
    """Of all chips' candidates, [m, 3, s], the best token of each row; the first of equal ones.

    -1 where the logits of one of the parts are not finite.
    """
    floats = lax.bitcast_convert_type(candidates[:, :2], jnp.float32)
    best, extra, token = floats[0, 0], floats[0, 1], candidates[0, 2]
    for part in range(1, candidates.shape[0]):
        most, bonus = floats[part]
        better = (most - best) * jnp.where(rate > 0, rate, 1.0) > extra - bonus
        best, extra = jnp.where(better, most, best), jnp.where(better, bonus, extra)
        token = jnp.where(better, candidates[part, 2], token)
    return jnp.where(jnp.all(candidates[:, 2] >= 0, axis=0), token, -1)
