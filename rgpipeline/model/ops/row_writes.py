"""Parts of large arrays written anew, in place where they are donated.

XLA's CPU backend can put nothing into an array of bfloat16: for a scatter or a dynamic-update-slice
it converts the whole array to float32 and back, and for a select, too. But a select between bits
becomes a loop that stores the new ones and passes over the others: 0.02 ms for eight rows of 64 of
[512 128], where a scatter takes 1.0.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array, lax


def set_row(array: Array, place: Array, row: Array) -> Array:
    """`array` [s ...] with `row` [1 ...] at `place`, int32 []."""
    return _in_place(_update_row, _select_row, array, place, row)


def set_rows(array: Array, places: Array, rows: Array) -> Array:
    """`array` [s ...] with `rows` [r ...] at `places`, int32 [r], no two of them the same.

    Rows whose place is past the end are dropped.
    """
    return _in_place(_scatter_rows, _select_rows, array, places, rows)


def set_one_in_each_row(array: Array, places: Array, new: Array) -> Array:
    """`array` [b w h] with `new` [b h] at each row's place, int32 [b]."""
    return _in_place(_scatter_ones, _select_ones, array, places, new)


def _in_place(
    default: Callable[..., Array], select: Callable[..., Array], array: Array, *operands: Any
) -> Array:
    """Both ways are functions of this module: jax traces these once for all arrays of a shape."""
    if array.dtype != jnp.bfloat16:
        return default(array, *operands)
    written: Array = lax.platform_dependent(array, *operands, cpu=select, default=default)
    return written


def _update_row(array: Array, place: Array, row: Array) -> Array:
    return lax.dynamic_update_slice_in_dim(array, row, place, 0)


def _select_row(array: Array, place: Array, row: Array) -> Array:
    return _select(jnp.arange(array.shape[0]) == place, row, array)


def _scatter_rows(array: Array, places: Array, rows: Array) -> Array:
    return array.at[places].set(rows, mode="drop", unique_indices=True)


def _select_rows(array: Array, places: Array, rows: Array) -> Array:
    here = places[:, None] == jnp.arange(array.shape[0])
    row = jnp.sum(jnp.where(here, jnp.arange(places.shape[0])[:, None], 0), axis=0)
    return _select(jnp.any(here, axis=0), rows[row], array)


def _scatter_ones(array: Array, places: Array, new: Array) -> Array:
    return array.at[jnp.arange(array.shape[0]), places].set(new)


def _select_ones(array: Array, places: Array, new: Array) -> Array:
    return _select(jnp.arange(array.shape[1]) == places[:, None], new[:, None], array)


def _select(here: Array, new: Array, array: Array) -> Array:
    new, bits = (lax.bitcast_convert_type(each, jnp.uint16) for each in (new, array))
    here = here.reshape(here.shape + (1,) * (array.ndim - here.ndim))
    return lax.bitcast_convert_type(jnp.where(here, new, bits), array.dtype)
