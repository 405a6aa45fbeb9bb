"""Everything that the device holds for the slots, and the programs that change single slots.

The state is one immutable pytree, donated from call to call. Slots and rows are numbers among all
that the worker has; of several chips, each finds out whether a number is in its part.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

from rgpipeline.engine.slot_fields import BY_CHIP, ENTRIES, SamplingFeatures, SlotFields
from rgpipeline.model.collectives import Chips
from rgpipeline.model.config import GriffinConfig
from rgpipeline.model.griffin_state import GriffinState, init_state
from rgpipeline.model.ops import row_writes
from rgpipeline.model.sharding import map_rows

Tree = TypeVar("Tree")

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


def empty_fields(
    slots: int, vocab: int, features: SamplingFeatures, names: Collection[str] = ENTRIES
) -> SlotFields:
    """`names`: of those to make; the others are None."""
    made: dict[str, Any] = dict.fromkeys(ENTRIES)
    # Each array is made anew, even where two are equal: a donated buffer may be given only once.
    made |= {
        name: jnp.full((slots, *entry.row_shape(vocab, features)), entry.idle, entry.dtype)
        for name, entry in ENTRIES.items()
        if name in names
    }
    return SlotFields(**made)


def own_slots(fields: SlotFields, chips: Chips) -> SlotFields:
    """Of the fields of a group's slots, those of this chip's slots."""
    if chips.model == 1:
        return fields
    shared = {name: getattr(fields, name) for name in ENTRIES if name not in BY_CHIP}
    return replace(fields, **chips.local_slice(shared))


def snapshot_fields(fields: SlotFields, slot: int) -> dict[str, jax.Array]:
    """A slot's rows of the fields that belong in a snapshot, by name."""
    arrays = {name: getattr(fields, name) for name, entry in ENTRIES.items() if entry.in_snapshot}
    return {name: array[slot] for name, array in arrays.items() if array.size}


def named_arrays(tree: Any) -> dict[str, Any]:
    """The arrays of a tree by their paths in it, in the order of the tree."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path).strip("."): leaf for path, leaf in leaves}


def tree_of(arrays: Mapping[str, NDArray[np.generic]], shapes: Tree) -> Tree:
    """The tree whose `named_arrays` these are; ValueError if one has not its shape and dtype."""
    found = []
    for name, leaf in named_arrays(shapes).items():
        array = arrays.get(name)
        if array is None or array.shape != leaf.shape or array.dtype != leaf.dtype:
            seen = "nothing" if array is None else f"{array.dtype}{list(array.shape)}"
            raise ValueError(
                f"saved state: {name} should be {leaf.dtype}{list(leaf.shape)}, found {seen}"
            )
        found.append(array)
    tree: Tree = jax.tree.unflatten(jax.tree.structure(shapes), found)
    return tree


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
        name: _write(chips, slot, name in BY_CHIP, getattr(state.slots, name), row[None])
        for name, row in rows.items()
    }
    return state._replace(slots=replace(state.slots, **taken))


def copy_row(chips: Chips, states: GriffinState, row: jax.Array) -> GriffinState:
    """A copy of one of the states, with a batch axis of 1; all chips get it."""

    def take(by_chip: bool, leaf: jax.Array) -> jax.Array:
        at, mine = _local_row(chips, row, by_chip, leaf)
        return chips.broadcast_from_owner(lax.dynamic_slice_in_dim(leaf, at, 1), mine, by_chip)

    copied: GriffinState = map_rows(take, states)
    return copied


def write_row(
    chips: Chips, states: GriffinState, row: jax.Array, copied: GriffinState
) -> GriffinState:
    """The states, with a copied one in one row."""
    after: GriffinState = map_rows(partial(_write, chips, row), states, copied)
    return after


def insert(
    chips: Chips, state: SlotState, slot: jax.Array, buffer: GriffinState, row: jax.Array
) -> SlotState:
    """Copies the state in a row of the buffer into a slot; one chip has both."""

    def copy(by_chip: bool, leaf: jax.Array, rows: jax.Array) -> jax.Array:
        at, _ = _local_row(chips, row, by_chip, rows)
        return _write(chips, slot, by_chip, leaf, lax.dynamic_slice_in_dim(rows, at, 1))

    return state._replace(model=map_rows(copy, state.model, buffer))


def restore(chips: Chips, state: SlotState, slot: jax.Array, copied: GriffinState) -> SlotState:
    return state._replace(model=write_row(chips, state.model, slot, copied))


def _write(
    chips: Chips, row: jax.Array, by_chip: bool, leaf: jax.Array, new: jax.Array
) -> jax.Array:
    """`leaf` with `new` [1 ...] in a row, on the chip that has the row."""
    at, mine = _local_row(chips, row, by_chip, leaf)
    if chips.count > 1:
        new = jnp.where(mine, new, lax.dynamic_slice_in_dim(leaf, at, 1))
    return row_writes.set_row(leaf, at, new)


def _local_row(
    chips: Chips, row: jax.Array, by_chip: bool, leaf: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The index of a row of the worker in this chip's part of `leaf`, and whether it is there."""
    count = leaf.shape[0]
    at = row - chips.first_slot(count, by_chip)
    return jnp.clip(at, 0, count - 1), (at >= 0) & (at < count)


def beside(per_slot: jax.Array, leaf: jax.Array) -> jax.Array:
    """`per_slot` [s] with as many axes as `leaf` [s ...], to be broadcast over them."""
    return per_slot.reshape(per_slot.shape + (1,) * (leaf.ndim - 1))
