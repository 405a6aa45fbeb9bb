"""Writes of rows into large arrays, in index if the array is donated.

XLA's CPU backend can't update an array of bfloat16: for a scatter, a dynamic-update-slice or a
select it converts the whole array to float32 and back. But a select between the bits, as integers,
becomes a loop that stores the new ones and skips the others: 0.02 ms for eight rows of 64 of
[512 128]; a scatter takes 1.0.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array, lax


def set_row(array: Array, index: Array, row: Array) -> Array:
    """`array` [s ...] with `row` [1 ...] at `index`, int32 []."""
    return _in_place(_update_row, _select_row, array, index, row)


def set_rows(array: Array, indices: Array, rows: Array) -> Array:
    """`array` [s ...] with `rows` [r ...] at `indices`, int32 [r], all different.

    Rows whose index is past the end are dropped.
    """
    return _in_place(_scatter_rows, _select_rows, array, indices, rows)


def set_one_in_each_row(array: Array, indices: Array, new: Array) -> Array:
    """`array` [b w h] with `new` [b h] at each row's index, int32 [b]."""
    return _in_place(_scatter_ones, _select_ones, array, indices, new)


def _in_place(
    default: Callable[..., Array], select: Callable[..., Array], array: Array, *operands: Any
) -> Array:
    """`select` on a CPU, if the array is bfloat16; else `default`."""
    if array.dtype != jnp.bfloat16:
        return default(array, *operands)
    written: Array = lax.platform_dependent(array, *operands, cpu=select, default=default)
    return written


def _update_row(array: Array, index: Array, row: Array) -> Array:
    return lax.dynamic_update_slice_in_dim(array, row, index, 0)


def _select_row(array: Array, index: Array, row: Array) -> Array:
    return _select(jnp.arange(array.shape[0]) == index, row, array)


def _scatter_rows(array: Array, indices: Array, rows: Array) -> Array:
    return array.at[indices].set(rows, mode="drop", unique_indices=True)


def _select_rows(array: Array, indices: Array, rows: Array) -> Array:
    here = indices[:, None] == jnp.arange(array.shape[0])
    row = jnp.sum(jnp.where(here, jnp.arange(indices.shape[0])[:, None], 0), axis=0)
    return _select(jnp.any(here, axis=0), rows[row], array)


def _scatter_ones(array: Array, indices: Array, new: Array) -> Array:
    return array.at[jnp.arange(array.shape[0]), indices].set(new)


def _select_ones(array: Array, indices: Array, new: Array) -> Array:
    return _select(jnp.arange(array.shape[1]) == indices[:, None], new[:, None], array)


def _select(here: Array, new: Array, array: Array) -> Array:
    new, bits = (lax.bitcast_convert_type(each, jnp.uint16) for each in (new, array))
    here = here.reshape(here.shape + (1,) * (array.ndim - here.ndim))
    return lax.bitcast_convert_type(jnp.where(here, new, bits), array.dtype)
