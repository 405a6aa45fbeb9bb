"""Draws where the model's head itself chooses a block of the vocabulary (`model.kernels.head`).

For rows whose logits are drawn from as the model gives them. The random bits are a row's own, by
the same counter as the sampler's (draw words, position), so nothing else has a say in its token.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.random import threefry_2x32

from rgpipeline.engine.sampling.draw import inverse
from rgpipeline.model.griffin_state import Position
from rgpipeline.model.kernels.head import Choice

# A draw at a lower temperature is greedy: exp((x - largest) / temperature) is 0 or 1 long before.
_LEAST_TEMPERATURE = 1e-30


def rate_of(temperature: jax.Array) -> jax.Array:
    """One over the temperature; 0 for greedy rows. float32 [s] to [s]."""
    positive = temperature > 0
    return jnp.where(positive, 1.0 / jnp.maximum(temperature, _LEAST_TEMPERATURE), 0.0)


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
    # Small numbers keep their digits here, and it is small ones that win: -log of a number near 1
    # would have few.
    small = jnp.minimum((bits[:, :blocks].astype(jnp.float32) + 0.5) * 2.0**-32, 1 - 2.0**-24)
    uniform = (bits[:, blocks] >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)
    return -jnp.log(-jnp.log1p(-small)), uniform


def token_of(
    choice: Choice, rate: jax.Array, uniform: jax.Array, first: jax.Array | int = 0
) -> jax.Array:
    """The token of each row in the block chosen for it: int32 [s]; -1 if there is no number in it.

    Args:
      choice: of `Griffin.choose`.
      rate: as given to it.
      uniform: float32 [s], in [0, 1).
      first: int32 scalar, the token with which the chip's part of the vocabulary begins.
    """
    logits = choice.logits
    largest = jnp.max(logits, axis=-1, keepdims=True)
    weight = jnp.exp((logits - largest) * rate[:, None])
    index = lax.broadcasted_iota(jnp.int32, logits.shape, 1)
    greedy = jnp.min(jnp.where(logits >= largest, index, logits.shape[-1] - 1), axis=-1)
    inside = jnp.where(rate > 0, inverse(weight, uniform), greedy)
    # The head chooses a block with NaN or infinity in it, if there is one.
    finite = jnp.all(logits < jnp.inf, axis=-1)
    return jnp.where(finite, first + choice.block * logits.shape[-1] + inside, -1)


def offer(choice: Choice, rate: jax.Array, gumbel: jax.Array, token: jax.Array) -> jax.Array:
    """What a part of the vocabulary has to offer, where it is divided; for `best_offer`.

    Args:
      choice: the part's.
      rate: as given to it.
      gumbel: as given to it, float32 [s, blocks].
      token: int32 [s], the one in the block chosen; -1 if the row has no numbers.

    Returns:
      int32 [3, s]: the bits of the block's largest logit and of the bonus on top of it, as the
      head compares blocks, and the token.
    """
    most = jnp.max(choice.logits, axis=-1)
    weight = jnp.sum(jnp.exp((choice.logits - most[:, None]) * rate[:, None]), axis=-1)
    mine = jnp.take_along_axis(gumbel, choice.block[:, None], axis=1)[:, 0]
    bonus = jnp.where(rate > 0, jnp.log(weight) + mine, 0.0)
    floats = lax.bitcast_convert_type(jnp.stack([most, bonus]), jnp.int32)
    return jnp.concatenate([floats, token[None]])


def best_offer(offers: jax.Array, rate: jax.Array) -> jax.Array:
    """The tokens of the best among several parts' offers, [m, 3, s]; the first of equals.

    -1 where one of the parts has no numbers.
    """
    floats = lax.bitcast_convert_type(offers[:, :2], jnp.float32)
    best, extra, token = floats[0, 0], floats[0, 1], offers[0, 2]
    for part in range(1, offers.shape[0]):
        most, bonus = floats[part]
        better = (most - best) * jnp.where(rate > 0, rate, 1.0) > extra - bonus
        best, extra = jnp.where(better, most, best), jnp.where(better, bonus, extra)
        token = jnp.where(better, offers[part, 2], token)
    return jnp.where(jnp.all(offers[:, 2] >= 0, axis=0), token, -1)


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
