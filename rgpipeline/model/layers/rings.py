"""The rings of past keys and values: read as floats, and written.

The token at position p stands in slot `p mod window`. Rings hold the model's dtype, or int8 with a
scale for each token's key and value.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from rgpipeline.model import quantize
from rgpipeline.model.griffin_state import AttentionState, Position, QuantizedAttentionState, Rings
from rgpipeline.model.layers.array_types import Active, Keys, Lengths
from rgpipeline.model.ops import row_writes


def read(state: Rings, dtype: DTypeLike) -> AttentionState:
    """The rings as floats: as they are, or in `dtype` if they are quantized."""
    if isinstance(state, AttentionState):
        return state
    keys, values = (
        quantize.dequantized(ring, state.scales[:, which], dtype)
        for which, ring in enumerate((state.keys, state.values))
    )
    return AttentionState(keys, values)


def to_storage(keys: Keys, values: Keys, like: Rings) -> Rings:
    """New tokens, [b t h], in the dtype in which the rings hold them.

    Quantized rings hold finite numbers only. A kernel may read another row's stale tokens with
    weight 0, and 0 · NaN = NaN.
    """
    if isinstance(like, AttentionState):
        return AttentionState(keys.astype(like.keys.dtype), values.astype(like.values.dtype))
    largest = float(np.finfo(np.float32).max)
    (keys, key_scales), (values, value_scales) = (
        quantize.quantized_rows(
            jnp.nan_to_num(new.astype(jnp.float32), posinf=largest, neginf=-largest)
        )
        for new in (keys, values)
    )
    return QuantizedAttentionState(keys, values, jnp.stack([key_scales, value_scales], axis=1))


def write_chunk(
    state: Rings, keys: Keys, values: Keys, position: Position, lengths: Lengths
) -> Rings:
    """The ring after the first `lengths` tokens of each row; each slot holds its newest token."""
    window = state.keys.shape[1]
    offset = _offset(position, window)
    last_lap = jnp.maximum(lengths[:, None] - 1 - offset, 0) // window
    index = jnp.minimum(offset + last_lap * window, keys.shape[1] - 1)[..., None]
    written = (offset < lengths[:, None])[..., None]

    def merge(ring: Array, new: Array) -> Array:
        return jnp.where(written, jnp.take_along_axis(new, index, axis=1), ring)

    return _each(merge, state, to_storage(keys, values, state))


def requantize(state: Rings, after: AttentionState, position: Position, lengths: Lengths) -> Rings:
    """As `write_chunk`, from the rings after the chunk as floats; quantizes the new tokens only."""
    if isinstance(state, AttentionState):
        return after
    written = (_offset(position, after.keys.shape[1]) < lengths[:, None])[..., None]
    new = to_storage(after.keys, after.values, state)
    return _each(lambda ring, new: jnp.where(written, new, ring), state, new)


def write_one(
    state: Rings, keys: Keys, values: Keys, position: Position, active: Active
) -> tuple[Rings, Rings]:
    """Puts one token, [b 1 h], into the rings of the rows that are active.

    Returns:
        The rings after it, and the tokens it overwrote, [b 1 h]: those `window` before it, if the
        ring was full.
    """
    rows = jnp.arange(keys.shape[0])

    def put(ring: Array, new: Array, old: Array) -> Array:
        new = jnp.where(active[:, None], new[:, 0], old[:, 0])
        return row_writes.set_one_in_each_row(ring, position.ring, new)

    overwritten = _each(lambda ring: ring[rows, position.ring][:, None], state)
    return _each(put, state, to_storage(keys, values, state), overwritten), overwritten


def _each(function: Callable[..., Array], *states: Rings) -> Rings:
    """`function` of the keys, of the values and of the scales of several rings, each [b w ...]."""
    keys = function(*(state.keys for state in states))
    values = function(*(state.values for state in states))
    scales = [s.scales.swapaxes(1, 2) for s in states if isinstance(s, QuantizedAttentionState)]
    if not scales:
        return AttentionState(keys, values)
    return QuantizedAttentionState(keys, values, function(*scales).swapaxes(1, 2))


def _offset(position: Position, window: int) -> Array:
    """How many tokens later each slot of the ring is written, int32 [b w]."""
    return (jnp.arange(window) - position.ring[:, None]) % window
