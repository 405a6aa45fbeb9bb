"""Rotary position embedding of the first half of each head, right at any position."""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from rgpipeline.model.griffin_state import LOW_SIZE, Position
from rgpipeline.model.layers.array_types import Rotation

_MAX_WAVELENGTH = 10_000.0


class Angles(NamedTuple):
    """Cosine and sine of each token's angles, float32 [b t h/4]."""

    cos: Rotation
    sin: Rotation


def angles(position: Position, length: int, head_dim: int) -> Angles:
    """Angles of the `length` tokens that follow `position`.

    A position is `high * 8192 + low`. The low part's angle is `low * frequency` in float32, the
    official library's formula (`modules._apply_rope`), so below 8192 the two agree. Its rounding
    grows with the position, so beyond that the high part's angle is counted in 2^-32 turns,
    where int32 overflow *is* the reduction modulo a turn, and the two angles are added by the
    addition theorems. Keys and queries less than a window apart are thus turned against each
    other by the right angle at any distance from the start.

    Args:
        position: Where each row is, fields [b].
        length: Tokens per row, t.
        head_dim: Width of a head, h; a multiple of 4.
    """
    frequencies = _frequencies(head_dim)
    low = position.low[:, None] + jnp.arange(length, dtype=jnp.int32)
    high = position.high[:, None] + low // LOW_SIZE
    near = (low % LOW_SIZE)[..., None].astype(jnp.float32) * frequencies
    turns = high[..., None] * _turns_per_high(frequencies)
    far = turns.astype(jnp.float32) * np.float32(math.tau / 2**32)
    cos_near, sin_near, cos_far, sin_far = jnp.cos(near), jnp.sin(near), jnp.cos(far), jnp.sin(far)
    return Angles(cos_near * cos_far - sin_near * sin_far, sin_near * cos_far + cos_near * sin_far)


def rotate(x: Array, by: Angles) -> Array:
    """Turns the first half of the last axis of `x` [b t ... h]; float32 inside and out."""
    extra = tuple(range(2, x.ndim - 1))
    cos, sin = jnp.expand_dims(by.cos, extra), jnp.expand_dims(by.sin, extra)
    quarter = x.shape[-1] // 4
    x = x.astype(jnp.float32)
    first, second, rest = x[..., :quarter], x[..., quarter : 2 * quarter], x[..., 2 * quarter :]
    turned = (first * cos - second * sin, second * cos + first * sin)
    return jnp.concatenate([*turned, rest], axis=-1)


def _frequencies(head_dim: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Radians a token, float32 [h/4], computed on the host: the same on every platform."""
    quarter = head_dim // 4
    exponents = np.float32(2) * np.arange(quarter, dtype=np.float32) / np.float32(2 * quarter)
    timescale = (_MAX_WAVELENGTH ** exponents.astype(np.float64)).astype(np.float32)
    return np.float32(1) / timescale


def _turns_per_high(
    frequencies: np.ndarray[tuple[int], np.dtype[np.float32]],
) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Turns that 8192 tokens make, modulo one, in units of 2^-32: int32 [h/4]."""
    turns = frequencies.astype(np.float64) * (LOW_SIZE / math.tau) % 1.0
    return np.round(turns * 2**32).astype(np.int64).astype(np.uint32).view(np.int32)
