"""Several heads of keys and values: to attention, each is a row with a ring of its own.

All that reads or writes rings knows one head of keys and values for each row. A model with k of
them has b·k such rows, each with the n/k query heads that share its keys:

    row 0   query heads 0 1 | 2 3        rows 0, 1   query heads 0 1
            rings       A   |  B                     ring        A     and 2 3 with B

With one head, every function here returns its argument, so that programs are the same as without.
"""

from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from rgpipeline.model.griffin_state import Rings

Tree = TypeVar("Tree")


def repeated(tree: Tree, heads: int) -> Tree:
    """What belongs to a row, [b ...], for each of its heads, [b*k ...]."""
    if heads == 1:
        return tree
    rows: Tree = jax.tree.map(lambda leaf: jnp.repeat(leaf, heads, axis=0), tree)
    return rows


def split(x: Array, heads: int, axis: int) -> Array:
    """From [b ... k*i ...], k*i being `axis`, to [b*k ... i ...]."""
    if heads == 1:
        return x
    shape = x.shape
    x = x.reshape(*shape[:axis], heads, shape[axis] // heads, *shape[axis + 1 :])
    x = jnp.moveaxis(x, axis, 1)
    return x.reshape(-1, *x.shape[2:])


def joined(x: Array, heads: int, axis: int) -> Array:
    """The inverse of `split`."""
    if heads == 1:
        return x
    x = jnp.moveaxis(x.reshape(-1, heads, *x.shape[1:]), 1, axis)
    return x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])


def as_rows(state: Rings, heads: int) -> Rings:
    """Rings [b k ...] as those of rows with one head each, [b*k ...]."""
    if heads == 1:
        return state
    return type(state)(*(array.reshape(-1, *array.shape[2:]) for array in state))


def of_rows(state: Rings, heads: int) -> Rings:
    """The inverse of `as_rows`."""
    if heads == 1:
        return state
    return type(state)(*(array.reshape(-1, heads, *array.shape[1:]) for array in state))
