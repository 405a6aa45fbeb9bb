"""The programs that copy one sequence's state: out of a place or a slot, and into one.

`slot` (or `place`) is a number among the worker's; of several chips, each looks whether it is its
own.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from rgpipeline.engine.state import SlotState
from rgpipeline.model.collectives import Chips
from rgpipeline.model.griffin_state import GriffinState
from rgpipeline.model.ops import row_writes
from rgpipeline.model.sharding import map_rows


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
        return chips.taken(lax.dynamic_slice_in_dim(leaf, at, 1), mine, by_chip)

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
