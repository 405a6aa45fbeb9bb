"""From logits to one token for every slot, on the device.

Every slot has its own settings and its own random bits, drawn from a counter (draw words,
position): nothing of its neighbours, its slot or the step takes part.

Sampling is by inverse transform in two stages (a block of the vocabulary, then a token in it), so
that one draw costs one pass over the logits and two random words, not noise for every token.
"""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.random import threefry_2x32

from rgpipeline.engine.sampling.distribution import (
    Limits,
    Shaping,
    adjust_logits,
    operands,
    truncate,
)
from rgpipeline.engine.sampling.draw import argmax, fenced, inverse
from rgpipeline.engine.slot_fields import (
    SamplingFeatures,
    SlotFields,
    penalizes,
    truncates,
)
from rgpipeline.model.collectives import Chips
from rgpipeline.model.griffin_state import Position

BLOCK = 256


class Sampled(NamedTuple):
    """One token for every slot."""

    token: jax.Array  # int32 [s]; -1 where the logits are not finite
    logprob: jax.Array  # float32 [s] or [s, 0]
    top_ids: jax.Array  # int32 [s, k]
    top_logprobs: jax.Array  # float32 [s, k]

    def for_group(self, chips: Chips) -> "Sampled":
        """All that the chips of a group sampled, each for its own slots, in one exchange."""
        if chips.model == 1:
            return self
        rows = self.token.shape[0]
        columns = [leaf.reshape(rows, -1) for leaf in self]
        bits = [lax.bitcast_convert_type(column, jnp.int32) for column in columns]
        told = chips.all_gather_tiled(jnp.concatenate(bits, axis=1))
        ends = np.cumsum([column.shape[1] for column in columns])[:-1]
        parts = jnp.split(told, ends, axis=1)
        return Sampled(
            *(
                lax.bitcast_convert_type(part, leaf.dtype).reshape(told.shape[0], *leaf.shape[1:])
                for part, leaf in zip(parts, self, strict=True)
            )
        )


def sample(
    logits: jax.Array,
    slots: SlotFields,
    position: Position,
    features: SamplingFeatures,
    chosen: jax.Array | None = None,
) -> Sampled:
    """Draws one token for every slot.

    Args:
      logits: float32 [s, v].
      slots: every slot's settings.
      position: of the token being drawn: the counter of its random bits.
      features: what this program can do; settings beyond it must not be in any slot.
      chosen: int32 [s], what slots get whose logits nothing shapes, where the model's head draws.
    """
    banned = jnp.where(slots.banned_for[:, None] > 0, slots.stop_ids, -1)
    wanted, draws = jnp.any(slots.active), slots.active & (slots.temperature > 0)
    shaped = logits
    if features.bias or features.penalties or features.bans:
        body, shaping = partial(adjust_logits, features=features), operands(Shaping, slots)
        shaped = fenced(wanted, body, logits, shaping, banned, otherwise=logits)
    token = argmax(shaped)
    if features.draws:
        scaled = fenced(jnp.any(draws), _scale, shaped, slots.temperature, otherwise=shaped)
        if features.truncates:
            cuts = draws & truncates(slots)
            limits = operands(Limits, slots)
            scaled = fenced(jnp.any(cuts), truncate, scaled, limits, cuts, otherwise=scaled)
        drawn = fenced(jnp.any(draws), _draw, scaled, slots.draw, position, otherwise=token)
        token = jnp.where(draws & (token >= 0), drawn, token)
    if chosen is not None:
        token = jnp.where(_is_shaped(slots, banned, features), token, chosen)
    return _with_logprobs(logits, token, wanted, features)


def only_token(token: jax.Array) -> Sampled:
    """Tokens of which nothing else is told."""
    none = jnp.zeros((token.shape[0], 0))
    return Sampled(token, none, none.astype(jnp.int32), none)


def _is_shaped(slots: SlotFields, banned: jax.Array, features: SamplingFeatures) -> jax.Array:
    """Slots whose settings change the model's distribution, beside the temperature: bool [s]."""
    shaped = jnp.zeros(slots.temperature.shape, jnp.bool_)
    if features.truncates:
        shaped |= (slots.temperature > 0) & truncates(slots)
    if features.penalties:
        shaped |= penalizes(slots)
    if features.bias:
        shaped |= jnp.any(slots.logit_bias != 0, axis=-1)
    if features.bans:
        shaped |= jnp.any(banned >= 0, axis=-1)
    return shaped


def count_token(
    slots: SlotFields, token: jax.Array, active: jax.Array, features: SamplingFeatures
) -> SlotFields:
    """Counts what active slots generated, for the penalties."""
    if not features.penalties:
        return slots
    rows = jnp.arange(token.shape[0])
    return replace(slots, seen=slots.seen.at[rows, token].add(active.astype(jnp.int32)))


def _scale(shaped: jax.Array, temperature: jax.Array) -> jax.Array:
    return shaped / jnp.where(temperature > 0, temperature, 1.0)[:, None]


def _draw(scaled: jax.Array, words: jax.Array, position: Position) -> jax.Array:
    """One token of each row from softmax(scaled): first a block of the vocabulary, then in it."""
    rows, vocab = scaled.shape
    blocks = -(-vocab // BLOCK)
    weight = jnp.exp(scaled - jnp.max(scaled, axis=-1, keepdims=True))
    weight = jnp.pad(weight, ((0, 0), (0, blocks * BLOCK - vocab))).reshape(rows, blocks, BLOCK)
    uniform = _uniforms(words, position)
    block = inverse(jnp.sum(weight, axis=-1), uniform[:, 0])
    inside = jnp.take_along_axis(weight, block[:, None, None], axis=1)[:, 0]
    return block * BLOCK + inverse(inside, uniform[:, 1])


def _uniforms(words: jax.Array, position: Position) -> jax.Array:
    """Two numbers in [0, 1) for each slot: Threefry-2x32 of its words and its position."""

    def one(key: jax.Array, high: jax.Array, low: jax.Array) -> jax.Array:
        return jnp.asarray(threefry_2x32(key, jnp.stack([high, low]).astype(jnp.uint32)))

    bits = jax.vmap(one)(words, position.high, position.low)
    return jnp.asarray((bits >> 8).astype(jnp.float32) * jnp.float32(2.0**-24))


def _with_logprobs(
    logits: jax.Array, token: jax.Array, wanted: jax.Array, features: SamplingFeatures
) -> Sampled:
    """Adds log-probabilities under the model's own distribution, before any shaping."""
    rows = logits.shape[0]
    if not features.logprobs:
        none = jnp.zeros((rows, 0))
        return Sampled(token, none, none.astype(jnp.int32), none)
    top, ids = lax.top_k(logits, features.logprobs if features.logprobs > 1 else 0)
    picked = jnp.concatenate(
        [jnp.take_along_axis(logits, jnp.maximum(token, 0)[:, None], axis=1), top], axis=1
    )
    told = fenced(wanted, _log_probabilities, logits, picked, otherwise=picked)
    return Sampled(token, told[:, 0], ids.astype(jnp.int32), told[:, 1:])


def _log_probabilities(logits: jax.Array, picked: jax.Array) -> jax.Array:
    """Log-probabilities of some of the logits, [s, k], under softmax(logits)."""
    largest = jnp.max(logits, axis=-1, keepdims=True)
    total = jnp.sum(jnp.exp(logits - largest), axis=-1, keepdims=True)
    return picked - largest - jnp.log(total)
