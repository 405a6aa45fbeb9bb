"""Everything the device holds for the slots: one immutable pytree, donated from call to call."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rgpipeline.engine.api import MAX_STOP_IDS
from rgpipeline.engine.features import SamplingFeatures
from rgpipeline.engine.sampling.sampler import SamplingState, empty_sampling_state
from rgpipeline.model.collectives import Chips
from rgpipeline.model.config import GriffinConfig
from rgpipeline.model.griffin_state import GriffinState, init_state
from rgpipeline.model.ops import row_writes
from rgpipeline.model.sharding import map_rows


class SlotState(NamedTuple):
    """Axis 0 of every array is the slot."""

    model: GriffinState
    token: jax.Array  # int32 [s], the next input
    active: jax.Array  # bool [s], decoding
    remaining: jax.Array  # int32 [s], tokens still to sample; negative is without limit
    banned_for: jax.Array  # int32 [s], steps in which stop ids can't be drawn
    stop_ids: jax.Array  # int32 [s, MAX_STOP_IDS], -1 is none
    sampling: SamplingState


def empty_slots(
    config: GriffinConfig,
    slots: int,
    dtype: jnp.dtype,
    features: SamplingFeatures,
    quantized: bool = False,
) -> SlotState:
    """All slots idle; `quantized` as in `init_state`."""
    # Separate arrays, although all are zero: a donated buffer may be given only once.
    token, remaining, banned_for = (jnp.zeros((slots,), jnp.int32) for _ in range(3))
    return SlotState(
        model=init_state(config, slots, dtype, quantized),
        token=token,
        active=jnp.zeros((slots,), jnp.bool_),
        remaining=remaining,
        banned_for=banned_for,
        stop_ids=jnp.full((slots, MAX_STOP_IDS), -1, jnp.int32),
        sampling=empty_sampling_state(slots, config.vocab_size, features),
    )


def assign_vocabulary_rows(
    chips: Chips, state: SlotState, slot: jax.Array, bias: jax.Array, seen: jax.Array
) -> SlotState:
    """Sets one slot's logit bias (float32 [v] or [0]) and token counts (int32 [v] or [0])."""
    put = partial(_put, chips, slot, True)
    sampling = state.sampling._replace(
        bias=put(state.sampling.bias, bias[None]), seen=put(state.sampling.seen, seen[None])
    )
    return state._replace(sampling=sampling)


def extract(chips: Chips, states: GriffinState, place: jax.Array) -> GriffinState:
    """A copy of one of the states, with a batch axis of 1; all chips get it."""

    def take(by_chip: bool, leaf: jax.Array) -> jax.Array:
        at, mine = _place(chips, place, by_chip, leaf)
        return chips.broadcast_from_owner(lax.dynamic_slice_in_dim(leaf, at, 1), mine, by_chip)

    rows: GriffinState = map_rows(take, states)
    return rows


def put(chips: Chips, states: GriffinState, place: jax.Array, rows: GriffinState) -> GriffinState:
    """The states with a copied one in the place of one of them."""
    after: GriffinState = map_rows(partial(_put, chips, place), states, rows)
    return after


def seat(
    chips: Chips, state: SlotState, slot: jax.Array, stage: GriffinState, place: jax.Array
) -> SlotState:
    """Copies the state in a place into a slot; of several chips, one has them both."""

    def copy(by_chip: bool, leaf: jax.Array, staged: jax.Array) -> jax.Array:
        at, _ = _place(chips, place, by_chip, staged)
        return _put(chips, slot, by_chip, leaf, lax.dynamic_slice_in_dim(staged, at, 1))

    return state._replace(model=map_rows(copy, state.model, stage))


def insert(chips: Chips, state: SlotState, slot: jax.Array, rows: GriffinState) -> SlotState:
    """Puts a copied state into a slot."""
    return state._replace(model=put(chips, state.model, slot, rows))


def _put(
    chips: Chips, slot: jax.Array, by_chip: bool, leaf: jax.Array, row: jax.Array
) -> jax.Array:
    """`leaf` with `row` [1 ...] as the slot's, where the slot is this chip's."""
    place, mine = _place(chips, slot, by_chip, leaf)
    if chips.count > 1:
        row = jnp.where(mine, row, lax.dynamic_slice_in_dim(leaf, place, 1))
    return row_writes.set_row(leaf, place, row)


def _place(
    chips: Chips, slot: jax.Array, by_chip: bool, leaf: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Where the slot is in this chip's part of `leaf`, and whether it is there at all."""
    held = leaf.shape[0]
    place = slot - chips.first_slot(held, by_chip)
    return jnp.clip(place, 0, held - 1), (place >= 0) & (place < held)
