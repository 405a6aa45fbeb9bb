"""Everything the device holds for the slots: one immutable pytree, donated from call to call."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rgpipeline.engine.slot_fields import BY_CHIP, ENTRIES, SamplingFeatures, SlotFields
from rgpipeline.model.collectives import Chips
from rgpipeline.model.config import GriffinConfig
from rgpipeline.model.griffin_state import GriffinState, init_state
from rgpipeline.model.ops import row_writes
from rgpipeline.model.sharding import map_rows

jax.tree_util.register_dataclass(SlotFields, data_fields=list(ENTRIES), meta_fields=[])


class SlotState(NamedTuple):
    """Axis 0 of every array is the slot."""

    model: GriffinState
    slots: SlotFields


def empty_slots(
    config: GriffinConfig,
    slots: int,
    dtype: jnp.dtype,
    features: SamplingFeatures,
    quantized: bool = False,
) -> SlotState:
    """All slots idle; `quantized` as in `init_state`."""
    return SlotState(
        init_state(config, slots, dtype, quantized),
        empty_fields(slots, config.vocab_size, features),
    )


def empty_fields(slots: int, vocab: int, features: SamplingFeatures) -> SlotFields:
    """The fields of idle slots."""
    # Each array is made anew, even where two are equal: a donated buffer may be given only once.
    return SlotFields(
        **{
            name: jnp.full((slots, *entry.row_shape(vocab, features)), entry.idle, entry.dtype)
            for name, entry in ENTRIES.items()
        }
    )


def own_slots(fields: SlotFields, chips: Chips) -> SlotFields:
    """Of the fields of a group's slots, those of this chip's slots."""
    if chips.model == 1:
        return fields
    shared = {name: getattr(fields, name) for name in ENTRIES if name not in BY_CHIP}
    return replace(fields, **chips.local_slice(shared))


def assign(state: SlotState, chosen: jax.Array, rows: Mapping[str, jax.Array]) -> SlotState:
    """Takes over `rows` (arrays by the names of fields, [s ...]) where `chosen` (bool [s])."""
    fields = {name: getattr(state.slots, name) for name in rows}
    taken = {name: jnp.where(beside(chosen, old), rows[name], old) for name, old in fields.items()}
    return state._replace(slots=replace(state.slots, **taken))


def assign_row(
    chips: Chips, state: SlotState, slot: jax.Array, rows: Mapping[str, jax.Array]
) -> SlotState:
    """Sets one slot's row of the fields that are allocated on demand."""
    taken = {
        name: _put(chips, slot, name in BY_CHIP, getattr(state.slots, name), row[None])
        for name, row in rows.items()
    }
    return state._replace(slots=replace(state.slots, **taken))


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


def beside(per_slot: jax.Array, leaf: jax.Array) -> jax.Array:
    """`per_slot` [s] with as many axes as `leaf` [s ...], to be broadcast over them."""
    return per_slot.reshape(per_slot.shape + (1,) * (leaf.ndim - 1))
