"""Collectives between the chips that share a model, for use inside `Chips.shard_map`.

Each step needs two sums per residual block: of the temporal half's output and of the MLP's. An
attention block also exchanges the queries and the attention's output. Beside these come the
embeddings, and what a sampler needs of a divided vocabulary.

A sum over more than two chips doesn't use an all-reduce. A TPU passes pieces of the array around a
ring and adds them in the order in which they arrive, so that a number's last bits depend on its
position in the array: a row's would depend on its slot. Instead pieces are exchanged, each is
summed in the order of the chips, and the sums are gathered. That moves the same bytes, and a row's
bits depend on nothing but the row.

    chip 0   a0 | a1        a0 b0        a0+b0       a0+b0 | a1+b1
    chip 1   b0 | b1        a1 b1        a1+b1       a0+b0 | a1+b1
             pieces         exchanged    summed      gathered
"""

import math
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh

DATA, MODEL = "data", "model"
CHIPS = (DATA, MODEL)

Tree = TypeVar("Tree")


@dataclass(frozen=True)
class Chips:
    """The chips of one worker: `data` groups of `model` chips.

    A group has some of the slots and one copy of the weights, divided among its chips. Methods are
    for use inside `shard_map`; on a model axis of 1 they return their argument.
    """

    data: int = 1
    model: int = 1

    @property
    def count(self) -> int:
        """Chips in all."""
        return self.data * self.model

    def shard_map(self, program: Any, mesh: Mesh, in_specs: Any, out_specs: Any) -> Any:
        """`program`, run on every chip with its shards of the arguments and results.

        Args:
            program: A function of arrays as one chip has them.
            mesh: The mesh of these chips.
            in_specs: The arguments' `PartitionSpec`s: a tree, or a prefix of one.
            out_specs: The results'.
        """
        # jax's check of replication can't follow kernels and gathered results.
        return jax.shard_map(
            program, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
        )

    def psum(self, x: Array) -> Array:
        """The sum over the chips of a group of `x` [... d], on each of them."""
        if self.model <= 2:  # the sum of two is the same in either order
            return self.psum_onehot(x)
        *rows, width = x.shape
        pieces = x.reshape(*rows, self.model, width // self.model)
        mine = _all_to_all(pieces, split=len(rows), join=0, tiled=False)
        total = reduce(jnp.add, [mine[chip] for chip in range(self.model)])
        return jnp.asarray(lax.all_gather(total, MODEL, axis=len(rows), tiled=True))

    def psum_onehot(self, x: Array) -> Array:
        """As `psum`, where at most one chip of the group has a number other than 0.

        This is an all-reduce, whose order of additions is undefined.
        """
        return _psum(x, (MODEL,)) if self.model > 1 else x

    def axis_index(self) -> Array:
        """This chip's index in its group, int32 []."""
        return lax.axis_index(MODEL) if self.model > 1 else jnp.zeros((), jnp.int32)

    def local_slice(self, rows: Tree) -> Tree:
        """The rows of this chip's slots, of arrays with a row for each of the group's slots."""
        if self.model == 1:
            return rows

        def cut(leaf: Array) -> Array:
            size = leaf.shape[0] // self.model
            return lax.dynamic_slice_in_dim(leaf, self.axis_index() * size, size)

        local: Tree = jax.tree.map(cut, rows)
        return local

    def all_to_all_slots(self, x: Array, axis: int) -> Array:
        """From a shard of `axis` for all the group's slots (axis 0) to all of `axis` for this
        chip's slots."""
        if self.model == 1:
            return x
        return _all_to_all(x, split=0, join=axis)

    def all_to_all_parts(self, x: Array, axis: int) -> Array:
        """The inverse of `all_to_all_slots`."""
        if self.model == 1:
            return x
        return _all_to_all(x, split=axis, join=0)

    def all_gather_tiled(self, rows: Array) -> Array:
        """Rows of all the group's slots, from those of each chip's; inverse of `local_slice`."""
        return lax.all_gather(rows, MODEL, tiled=True) if self.model > 1 else rows

    def all_gather(self, x: Array) -> Array:
        """`x` of every chip of the group, along a new first axis."""
        return lax.all_gather(x, MODEL) if self.model > 1 else x[None]

    def first_slot(self, count: int, by_chip: bool) -> Array:
        """The first of the `count` slots whose rows of an array are on this chip, int32 [].

        `by_chip`: whether the array's slots are divided among all chips, not just among groups.
        """
        if self.count == 1:
            return jnp.zeros((), jnp.int32)
        index = lax.axis_index(DATA)
        if by_chip:
            index = index * self.model + lax.axis_index(MODEL)
        return index * count

    def broadcast_from_owner(self, row: Array, mine: Array, by_chip: bool) -> Array:
        """`row` of the one chip (or group) where `mine` is true, on all chips; bit for bit."""
        axes = CHIPS if by_chip else (DATA,)
        if math.prod(getattr(self, axis) for axis in axes) == 1:
            return row
        # As integers: a float's sum with 0 would turn -0 into 0.
        bits = row
        if jnp.issubdtype(row.dtype, jnp.floating):
            bits = lax.bitcast_convert_type(row.astype(jnp.float32), jnp.int32)
        received = _psum(jnp.where(mine, bits, 0).astype(jnp.int32), axes)
        if jnp.issubdtype(row.dtype, jnp.floating):
            received = lax.bitcast_convert_type(received, jnp.float32)
        return received.astype(row.dtype)


def _psum(x: Array, axes: tuple[str, ...]) -> Array:
    return jnp.asarray(lax.psum(x, axes))  # type: ignore[no-untyped-call]


def _all_to_all(x: Array, *, split: int, join: int, tiled: bool = True) -> Array:
    return jnp.asarray(
        lax.all_to_all(x, MODEL, split_axis=split, concat_axis=join, tiled=tiled)  # type: ignore[no-untyped-call]
    )


ALONE = Chips()
