"""What chips that share a model tell each other, from within a program that runs on each of them.

In a step: two sums a residual block, of the temporal half's output and the MLP's; with attention,
two exchanges more, of queries and of what they gathered. Beside these, the embeddings, and what a
sampler needs of a divided vocabulary.

A sum of more than two is not left to an all-reduce. A TPU passes pieces of the array around a ring
and adds in the order in which they come by, so that a number's last bits depend on where in the
array it stands: a row's on its slot. An exchange of pieces, a sum of each in the order of the
chips, and a gather of what came of it move the same bytes, and every row's bits are its own.

    chip 0   a0 | a1        a0 b0        a0+b0       a0+b0 | a1+b1
    chip 1   b0 | b1        a1 b1        a1+b1       a0+b0 | a1+b1
             parts          exchanged    summed      gathered
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
    """The chips of one worker: `data` groups, each with some of the slots, `model` chips in each.

    The chips of a group hold parts of one copy of the weights. Methods are for use inside
    `spread`; on a model axis of 1 they leave everything as it is.
    """

    data: int = 1
    model: int = 1

    @property
    def count(self) -> int:
        return self.data * self.model

    def spread(self, program: Any, mesh: Mesh, given: Any, made: Any) -> Any:
        """`program`, run on every chip over its own parts of arguments and results.

        Args:
            program: Of arrays as one chip has them.
            mesh: Of these chips.
            given: The arguments' `PartitionSpec`s, a tree or the beginning of one.
            made: The results'.
        """
        # Kernels and gathered results are beyond what the check of replication can follow.
        return jax.shard_map(program, mesh=mesh, in_specs=given, out_specs=made, check_vma=False)

    def summed(self, part: Array) -> Array:
        """The sum of what the chips of a group have, [... d]; each gets it."""
        if self.model <= 2:  # the sum of two is the same in either order
            return self.found(part)
        *rows, width = part.shape
        pieces = part.reshape(*rows, self.model, width // self.model)
        mine = _exchange(pieces, split=len(rows), join=0, tiled=False)
        total = reduce(jnp.add, [mine[chip] for chip in range(self.model)])
        return jnp.asarray(lax.all_gather(total, MODEL, axis=len(rows), tiled=True))

    def found(self, part: Array) -> Array:
        """What one chip of a group has and for which the others have zeros; each gets it.

        An all-reduce: the order of its additions is nobody's to say.
        """
        return _sum(part, (MODEL,)) if self.model > 1 else part

    def place(self) -> Array:
        """Which chip of its group this is."""
        return lax.axis_index(MODEL) if self.model > 1 else jnp.zeros((), jnp.int32)

    def own(self, rows: Tree) -> Tree:
        """Of arrays with a row for each of the group's slots, those of this chip's slots."""
        if self.model == 1:
            return rows

        def cut(leaf: Array) -> Array:
            size = leaf.shape[0] // self.model
            return lax.dynamic_slice_in_dim(leaf, self.place() * size, size)

        owned: Tree = jax.tree.map(cut, rows)
        return owned

    def by_slot(self, x: Array, axis: int) -> Array:
        """From this chip's part of `axis` for all the group's slots (axis 0) to all of it for its
        own slots."""
        if self.model == 1:
            return x
        return _exchange(x, split=0, join=axis)

    def by_part(self, x: Array, axis: int) -> Array:
        """The inverse of `by_slot`."""
        if self.model == 1:
            return x
        return _exchange(x, split=axis, join=0)

    def gathered(self, rows: Array) -> Array:
        """Rows of every chip's own slots, for all the group's slots; the inverse of `own`."""
        return lax.all_gather(rows, MODEL, tiled=True) if self.model > 1 else rows

    def compared(self, candidates: Array) -> Array:
        """What every chip of the group has to offer, along a new first axis."""
        return lax.all_gather(candidates, MODEL) if self.model > 1 else candidates[None]

    def first_slot(self, held: int, by_chip: bool) -> Array:
        """The first of the `held` slots of which this chip has an array's rows.

        `by_chip`: of an array whose slots are divided among all chips, not just among groups.
        """
        if self.count == 1:
            return jnp.zeros((), jnp.int32)
        place = lax.axis_index(DATA)
        if by_chip:
            place = place * self.model + lax.axis_index(MODEL)
        return place * held

    def taken(self, row: Array, mine: Array, by_chip: bool) -> Array:
        """`row` of the one chip (or group) for which `mine` is true, for all; bit for bit."""
        axes = CHIPS if by_chip else (DATA,)
        if math.prod(getattr(self, axis) for axis in axes) == 1:
            return row
        # As integers: a float's sum with 0 would turn -0 into 0.
        bits = row
        if jnp.issubdtype(row.dtype, jnp.floating):
            bits = lax.bitcast_convert_type(row.astype(jnp.float32), jnp.int32)
        found = _sum(jnp.where(mine, bits, 0).astype(jnp.int32), axes)
        if jnp.issubdtype(row.dtype, jnp.floating):
            found = lax.bitcast_convert_type(found, jnp.float32)
        return found.astype(row.dtype)


def _sum(part: Array, axes: tuple[str, ...]) -> Array:
    return jnp.asarray(lax.psum(part, axes))  # type: ignore[no-untyped-call]


def _exchange(x: Array, *, split: int, join: int, tiled: bool = True) -> Array:
    return jnp.asarray(
        lax.all_to_all(x, MODEL, split_axis=split, concat_axis=join, tiled=tiled)  # type: ignore[no-untyped-call]
    )


ALONE = Chips()
