"""One drawn token of each row, and the barrier around such code.

From logits of the whole vocabulary (`draw`), or from the block of it that the model's head chose
(`model.kernels.head`), for rows whose settings don't change the model's distribution.
Both take their random bits from one counter (draw words, position), so a row's token depends on
nothing else.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.random import threefry_2x32

from rgpipeline.model.griffin_state import Position
from rgpipeline.model.kernels.head import Choice

_BLOCK = 256


def draw(scaled: jax.Array, words: jax.Array, position: Position) -> jax.Array:
    """One token of each row from softmax(scaled), [s v] to int32 [s].

    By inverse transform in two stages, a block of the vocabulary and then a token in it: a draw
    costs one pass over the logits and two random words, not noise for every token.
    """
    rows, vocab = scaled.shape
    blocks = -(-vocab // _BLOCK)
    weight = jnp.exp(scaled - jnp.max(scaled, axis=-1, keepdims=True))
    weight = jnp.pad(weight, ((0, 0), (0, blocks * _BLOCK - vocab))).reshape(rows, blocks, _BLOCK)
    uniform = _uniforms(words, position)
    block = inverse_cdf(jnp.sum(weight, axis=-1), uniform[:, 0])
    inside = jnp.take_along_axis(weight, block[:, None, None], axis=1)[:, 0]
    return block * _BLOCK + inverse_cdf(inside, uniform[:, 1])


def _uniforms(words: jax.Array, position: Position) -> jax.Array:
    """Two numbers in [0, 1) for each slot: Threefry-2x32 of its words and its position."""

    def one(key: jax.Array, high: jax.Array, low: jax.Array) -> jax.Array:
        return jnp.asarray(threefry_2x32(key, jnp.stack([high, low]).astype(jnp.uint32)))

    bits = jax.vmap(one)(words, position.high, position.low)
    return jnp.asarray((bits >> 8).astype(jnp.float32) * jnp.float32(2.0**-24))


def inverse_cdf(weight: jax.Array, uniform: jax.Array) -> jax.Array:
    """Index i with probability weight[i] / sum; never one of weight zero. [s, m], [s] -> [s]."""
    cumulative = jnp.cumsum(weight, axis=-1)
    below = cumulative <= uniform[:, None] * cumulative[:, -1:]
    reached = jnp.sum(below, axis=-1, dtype=jnp.int32, keepdims=True)
    index = lax.broadcasted_iota(jnp.int32, weight.shape, 1)
    possible = weight > 0
    last = jnp.max(jnp.where(possible, index, 0), axis=-1)
    # Sums round, so the index reached may have weight zero: then the next one with a weight.
    after = jnp.min(jnp.where(possible & (index >= reached), index, weight.shape[-1]), axis=-1)
    return jnp.minimum(after, last)


def fusion_barrier(
    needed: jax.Array, body: Callable[..., jax.Array], *operands: Any, otherwise: jax.Array
) -> jax.Array:
    """`body(*operands)`, with the same bits in whatever program it is part of.

    XLA fuses neighbouring operations, and contracts `a * b - c` into one rounding where it can. So
    one formula may round differently in two programs that use its result differently, and a row
    would get other bits because of what its neighbours ask for.

    On the CPU only the branches of a conditional are compiled separately: XLA removes barriers
    before it fuses. Elsewhere a barrier works, and a conditional would keep the compiler from
    overlapping it with the operations around it.

    Args:
      needed: bool scalar that isn't known when the program is compiled; where it is False the
        result may be `otherwise`.
      body: closes over nothing that is traced.
      otherwise: of the result's shape and dtype.
    """

    def conditional(needed: jax.Array, otherwise: jax.Array, *operands: Any) -> jax.Array:
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
        needed, otherwise, *operands, cpu=conditional, default=barrier
    )
    return chosen


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
