"""From the hidden values after a decode step to each slot's next token."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rgpipeline.engine.sampling.draw import (
    fusion_barrier,
    local_candidate,
    noise,
    rate_of,
    reduce_candidates,
    token_of,
)
from rgpipeline.engine.sampling.masks import masks_of_part
from rgpipeline.engine.sampling.sampler import Sampled, sample, without_logprobs
from rgpipeline.engine.slot_fields import SamplingFeatures
from rgpipeline.engine.slot_state import SlotState, own_slots
from rgpipeline.model.collectives import Chips
from rgpipeline.model.griffin_state import Position
from rgpipeline.model.kernels import head
from rgpipeline.model.layers.griffin import Griffin
from rgpipeline.model.params import head_of

Params = Any


def next_tokens(
    model: Griffin,
    params: Params,
    hidden: jax.Array,
    state: SlotState,
    features: SamplingFeatures,
    masks: jax.Array | None = None,
) -> Sampled:
    """A token for every slot; the head itself draws it where nothing more is asked for.

    Args:
      model, params: as everywhere.
      hidden: the last block's output, normed, float32 [s d].
      state: after the model's step.
      features: what the sampler can do.
      masks: uint8 [s, b], what each slot's grammar allows; None: no slot has one.
    """
    chosen = _head_draw(model, params, hidden, state, masks)
    if chosen is not None and not features.read_logits:
        return without_logprobs(chosen)
    logits = logits_of(model, params, hidden, jnp.any(state.slots.active))
    return sampled_of(model.chips, logits, chosen, state, features, masks)


def logits_of(model: Griffin, params: Params, hidden: jax.Array, needed: jax.Array) -> jax.Array:
    """Every slot's logits, float32 [s, v].

    On a CPU, the vocabulary is the first axis inside the barrier, because the product is computed
    in that order and argmax is fastest in it: so no transpose is needed.
    """

    def by_slot(params: Params, hidden: jax.Array) -> jax.Array:
        return jnp.asarray(model.apply({"params": params}, hidden, method="logits"))

    def by_token(params: Params, hidden: jax.Array) -> jax.Array:
        return by_slot(params, hidden).T

    shape = (hidden.shape[0], model.config.vocab_size)

    def transposed(params: Params, hidden: jax.Array, needed: jax.Array) -> jax.Array:
        unused = jnp.zeros(shape[::-1], jnp.float32)
        return fusion_barrier(needed, by_token, params, hidden, otherwise=unused).T

    def plain(params: Params, hidden: jax.Array, needed: jax.Array) -> jax.Array:
        unused = jnp.zeros(shape, jnp.float32)
        return fusion_barrier(needed, by_slot, params, hidden, otherwise=unused)

    chosen: jax.Array = lax.platform_dependent(
        params, hidden, needed, cpu=transposed, default=plain
    )
    return chosen


def sampled_of(
    chips: Chips,
    logits: jax.Array,
    chosen: jax.Array | None,
    state: SlotState,
    features: SamplingFeatures,
    masks: jax.Array | None,
) -> Sampled:
    """A token for every slot; of several chips, each draws those of its own slots."""
    slots = state.slots
    banned = jnp.where(slots.banned_for[:, None] > 0, slots.stop_ids, -1)
    drawn = sample(
        chips.all_to_all_slots(logits, 1),
        own_slots(slots, chips),
        *chips.local_slice((state.model.position, banned)),
        features,
        chips.local_slice(chosen),
        chips.local_slice(masks),
    )
    return drawn.for_group(chips)


def _head_draw(
    model: Griffin,
    params: Params,
    hidden: jax.Array,
    state: SlotState,
    masks: jax.Array | None,
) -> jax.Array | None:
    """Tokens that the head draws itself, int32 [s]; None if it has no kernel that can."""
    (table, scale), chips = head_of(params), model.chips
    choose = head.select(model.kernels, hidden.shape[0], table, model.config.logits_soft_cap)
    if choose is None:
        return None
    blocks = -(-table.shape[0] // head.BLOCK)

    def draw(
        part: jax.Array,
        table: jax.Array,
        scale: jax.Array | None,
        hidden: jax.Array,
        temperature: jax.Array,
        words: jax.Array,
        position: Position,
        allowed: jax.Array | None,
    ) -> jax.Array:
        rate = rate_of(temperature)
        gumbel, uniform = noise(words, position, chips.model * blocks)
        gumbel = lax.dynamic_slice_in_dim(gumbel, part * blocks, blocks, 1)
        choice = choose(hidden, table, scale, rate, gumbel, allowed)
        token = token_of(choice, rate, uniform, part * table.shape[0])
        return token if chips.model == 1 else local_candidate(choice, rate, gumbel, token)

    slots, position = state.slots, state.model.position
    part, allowed = chips.axis_index(), masks
    if masks is not None and chips.model > 1:
        allowed = masks_of_part(masks, part * table.shape[0], table.shape[0])
    operands = (part, table, scale, hidden, slots.temperature, slots.draw, position, allowed)
    nothing = slots.token if chips.model == 1 else jnp.zeros((3, hidden.shape[0]), jnp.int32)
    found = fusion_barrier(jnp.any(slots.active), draw, *operands, otherwise=nothing)
    if chips.model == 1:
        return found
    return reduce_candidates(chips.all_gather(found), rate_of(slots.temperature))
