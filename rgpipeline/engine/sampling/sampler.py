"""From logits to one token for every slot, on the device.

Every slot has its own settings and its own random bits, drawn from a counter (draw words,
position). Nothing else counts: neither its neighbours, nor its slot, nor the step.
"""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rgpipeline.engine.sampling.distribution import (
    Limits,
    Shaping,
    adjust_logits,
    operands,
    truncate,
)
from rgpipeline.engine.sampling.draw import draw, fusion_barrier
from rgpipeline.engine.sampling.masks import apply_masks, beside_logits, is_allowed
from rgpipeline.engine.sampling.reductions import allowed_argmax, argmax
from rgpipeline.engine.slot_fields import SamplingFeatures, SlotFields, penalizes, truncates
from rgpipeline.model.collectives import Chips
from rgpipeline.model.griffin_state import Position


class Sampled(NamedTuple):
    """One token for every slot."""

    token: jax.Array  # int32 [s]; -1 where the logits are not finite
    logprob: jax.Array  # float32 [s] or [s, 0]
    top_ids: jax.Array  # int32 [s, k]
    top_logprobs: jax.Array  # float32 [s, k]

    def for_group(self, chips: Chips) -> "Sampled":
        """What all chips of a group sampled, each for its own slots, in one all-gather."""
        if chips.model == 1:
            return self
        rows = self.token.shape[0]
        columns = [leaf.reshape(rows, -1) for leaf in self]
        bits = [lax.bitcast_convert_type(column, jnp.int32) for column in columns]
        joined = chips.all_gather_tiled(jnp.concatenate(bits, axis=1))
        ends = np.cumsum([column.shape[1] for column in columns])[:-1]
        parts = jnp.split(joined, ends, axis=1)
        return Sampled(
            *(
                lax.bitcast_convert_type(part, leaf.dtype).reshape(joined.shape[0], *leaf.shape[1:])
                for part, leaf in zip(parts, self, strict=True)
            )
        )


def sample(
    logits: jax.Array,
    slots: SlotFields,
    position: Position,
    banned: jax.Array,
    features: SamplingFeatures,
    chosen: jax.Array | None = None,
    masks: jax.Array | None = None,
) -> Sampled:
    """Draws one token for every slot.

    Args:
      logits: float32 [s, v].
      slots: every slot's settings.
      position: of the token being drawn: the counter of its random bits.
      banned: int32 [s, i], token ids that can't be drawn; -1 is none.
      features: what this program can do; no slot may have settings that need more.
      chosen: int32 [s], tokens drawn by the model's head, if it draws: for slots whose settings
        don't change the distribution.
      masks: uint8 [s, b], what each slot's grammar allows (see `masks`); None: no slot has one.
    """
    wanted, draws = jnp.any(slots.active), slots.active & (slots.temperature > 0)
    shaped = logits
    if features.adjust_logits:
        body, shaping = partial(adjust_logits, features=features), operands(Shaping, slots)
        shaped = fusion_barrier(wanted, body, logits, shaping, banned, otherwise=logits)
    masks = None if masks is None else beside_logits(masks)
    token = argmax(shaped) if masks is None else allowed_argmax(shaped, masks)
    if features.draws:
        given = (shaped, slots.temperature) if masks is None else (shaped, slots.temperature, masks)
        scaled = fusion_barrier(jnp.any(draws), _scale, *given, otherwise=shaped)
        if features.truncates:
            cuts = draws & truncates(slots)
            limits = operands(Limits, slots)
            scaled = fusion_barrier(jnp.any(cuts), truncate, scaled, limits, cuts, otherwise=scaled)
        drawn = fusion_barrier(jnp.any(draws), draw, scaled, slots.draw, position, otherwise=token)
        # With a mask, nothing may be left to draw from: a temperature can make all of it infinite.
        possible = draws if masks is None else draws & is_allowed(masks, drawn)
        token = jnp.where(possible & (token >= 0), drawn, token)
    if chosen is not None:
        token = jnp.where(_is_changed(slots, banned, features), token, chosen)
    return _with_logprobs(logits, token, wanted, features)


def without_logprobs(token: jax.Array) -> Sampled:
    """Tokens without log-probabilities."""
    none = jnp.zeros((token.shape[0], 0))
    return Sampled(token, none, none.astype(jnp.int32), none)


def _is_changed(slots: SlotFields, banned: jax.Array, features: SamplingFeatures) -> jax.Array:
    """Slots with settings, other than temperature, that change the distribution: bool [s]."""
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


def _scale(shaped: jax.Array, temperature: jax.Array, masks: jax.Array | None = None) -> jax.Array:
    """Logits over the temperature, after the masks: one pass over them does both."""
    if masks is not None:
        shaped = apply_masks(shaped, masks)
    return shaped / jnp.where(temperature > 0, temperature, 1.0)[:, None]


def _with_logprobs(
    logits: jax.Array, token: jax.Array, wanted: jax.Array, features: SamplingFeatures
) -> Sampled:
    """Adds log-probabilities under the model's own distribution, before any shaping."""
    if not features.logprobs:
        return without_logprobs(token)
    top, ids = lax.top_k(logits, features.logprobs if features.logprobs > 1 else 0)
    picked = jnp.concatenate(
        [jnp.take_along_axis(logits, jnp.maximum(token, 0)[:, None], axis=1), top], axis=1
    )
    logprobs = fusion_barrier(wanted, _log_probabilities, logits, picked, otherwise=picked)
    return Sampled(token, logprobs[:, 0], ids.astype(jnp.int32), logprobs[:, 1:])


def _log_probabilities(logits: jax.Array, picked: jax.Array) -> jax.Array:
    """Log-probabilities of some of the logits, [s, k], under softmax(logits)."""
    largest = jnp.max(logits, axis=-1, keepdims=True)
    total = jnp.sum(jnp.exp(logits - largest), axis=-1, keepdims=True)
    return picked - largest - jnp.log(total)
