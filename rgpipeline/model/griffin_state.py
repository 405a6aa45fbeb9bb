"""The fixed-size state of a batch of sequences: immutable pytrees with one row per sequence."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from rgpipeline.model.config import RECURRENT, GriffinConfig
from rgpipeline.model.layers.array_types import Count

# Positions are counted in two int32 digits, so that they stay exact past 2^31 (up to 2^44);
# the low digit is small enough for RoPE's angles to be exact enough in float32.
LOW_BITS = 13
LOW_SIZE = 1 << LOW_BITS


class Position(NamedTuple):
    """How far each row is; every field int32 [b].

    Attributes:
        high: The next token's position is `high * 8192 + low`.
        low: See `high`; always less than 8192.
        ring: That position modulo the window: where the next key is written.
        filled: Slots of the ring that hold a key: the position, at most the window.
    """

    high: Array
    low: Array
    ring: Array
    filled: Array


class RecurrentState(NamedTuple):
    """What a recurrent block remembers.

    Attributes:
        h: The RG-LRU's state, float32 [b e] whatever the model's dtype: it sums over thousands
            of steps (so does the official library, `RGLRU.init_cache`).
        conv: The convolution's last inputs, oldest first, conv_width-1 of [b e]. Separate
            arrays, because an accelerator would pad so short an axis.
    """

    h: Array
    conv: tuple[Array, ...]


class AttentionState(NamedTuple):
    """The keys (after RoPE) and values of the last `window` tokens, each [b w h].

    The token at position p stands in slot `p mod window`. If the model has several heads of keys
    and values, each has a ring, [b k w h]; with one there is no such axis.
    """

    keys: Array
    values: Array


class QuantizedAttentionState(NamedTuple):
    """The same in eight bits (see `quantize`): keys and values int8 [b w h], or [b k w h].

    Attributes:
        keys: As in `AttentionState`.
        values: As in `AttentionState`.
        scales: Of the keys and of the values, float32 [b 2 w] or [b k 2 w]: in one array, so that
            one copy of a few kilobytes reads both of a sequence.
    """

    keys: Array
    values: Array
    scales: Array


Rings = AttentionState | QuantizedAttentionState
BlockState = RecurrentState | Rings


class GriffinState(NamedTuple):
    """All that generation needs to continue: positions and one state per block."""

    position: Position
    blocks: tuple[BlockState, ...]


def start(batch: int) -> Position:
    """Position 0 for `batch` rows."""
    # Four arrays, not one four times: a buffer can be donated only once.
    high, low, ring, filled = (jnp.zeros(batch, jnp.int32) for _ in range(4))
    return Position(high, low, ring, filled)


def advance(position: Position, count: Count, window: int) -> Position:
    """Advances each row by `count` tokens (0 leaves a row's bits as they are)."""
    low = position.low + count
    return Position(
        high=position.high + (low >> LOW_BITS),
        low=low & (LOW_SIZE - 1),
        ring=(position.ring + count) % window,
        filled=jnp.minimum(position.filled + count, window),
    )


def at_start(position: Position) -> Array:
    """Whether each row has seen no token yet, bool [b]."""
    return (position.high | position.low) == 0


def init_state(
    config: GriffinConfig, batch: int, dtype: DTypeLike, quantized: bool = False
) -> GriffinState:
    """Empty states for `batch` rows; rings and conv tails in `dtype`, recurrences in float32.

    `quantized`: rings are int8.
    """

    def block(kind: str) -> BlockState:
        if kind == RECURRENT:
            shape = (batch, config.lru_width)
            tail = tuple(jnp.zeros(shape, dtype) for _ in range(config.conv_width - 1))
            return RecurrentState(jnp.zeros(shape, jnp.float32), tail)
        rows = (batch,) if config.kv_heads == 1 else (batch, config.kv_heads)
        ring = (*rows, config.window, config.head_dim)
        if quantized:
            scales = jnp.zeros((*rows, 2, config.window), jnp.float32)
            return QuantizedAttentionState(
                jnp.zeros(ring, jnp.int8), jnp.zeros(ring, jnp.int8), scales
            )
        return AttentionState(jnp.zeros(ring, dtype), jnp.zeros(ring, dtype))

    return GriffinState(start(batch), tuple(block(kind) for kind in config.block_types))
