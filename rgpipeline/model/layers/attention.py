"""Local multi-query attention over a ring of past keys and the tokens of a chunk; and RoPE.

A token attends to itself and to the `window` tokens before it: window + 1 keys, as in the official
library (`modules._compute_causal_mask`). A chunk sees the ring as it was before the chunk, and its
own keys; the ring is written afterwards:

    ring   [ k5 k6 k7 | k0.. ]      window 4, ring = 2: slot 2 is the oldest and written next
    chunk  [ q8 q9 ]                q8 sees k4..k7 of the ring, and k8
"""

import math
from functools import reduce
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from rgpipeline.model.griffin_state import LOW_SIZE, AttentionState, Position, Rings
from rgpipeline.model.layers import rings
from rgpipeline.model.layers.array_types import Active, Keys, Lengths, Mask, Queries, Rotation
from rgpipeline.model.ops.primitives import einsum

MASKED = -2.3819763e38  # the official library's; finite, so that no row can become NaN


class Source(NamedTuple):
    """Keys and values [b s h], and which of them each query may see, bool [b t s]."""

    keys: Array
    values: Array
    visible: Mask


class TokenSources(NamedTuple):
    """What one token of each row attends to, once it is in the ring.

    Attributes:
        ring: The ring with the token in it.
        overwritten: The token whose slot it took: `window` before it, if the ring was full.
        own_key: The token's own key as the ring holds it, [b 1 h].
        own_slot: The slot of that key, int32 [b].
    """

    ring: Source
    overwritten: Source
    own_key: Array
    own_slot: Array


def attend(queries: Queries, sources: tuple[Source, ...]) -> Array:
    """Softmax attention over several sources at once, without joining them in memory.

    Scores, maximum and sum are float32 (as is the official library's softmax); the weights are
    rounded to the values' dtype for the product. Every query must see some key of some source.

    Returns:
        float32 [b t n h].
    """
    masked = [
        jnp.where(source.visible[:, :, None], scores(queries, source.keys), MASKED)
        for source in sources
    ]
    weights, total = _softmax(masked)
    mixed = sum(
        einsum("btns,bsh->btnh", weight.astype(source.values.dtype), source.values)
        for weight, source in zip(weights, sources, strict=True)
    )
    return jnp.asarray(mixed / total)


def attend_token(queries: Queries, sources: TokenSources) -> Array:
    """`attend` of one token of each row, [b 1 n h]."""
    return attend(queries, (sources.ring, sources.overwritten))


def scores(queries: Queries, keys: Array) -> Array:
    """The score of each key [b s h] for each query, float32 [b t n s]."""
    return jnp.asarray(einsum("btnh,bsh->btns", queries, keys) * queries.shape[-1] ** -0.5)


def _softmax(scores: list[Array]) -> tuple[list[Array], Array]:
    """Each source's weights, not yet divided by their sum, and the sum over all, [b t n 1]."""
    highest = reduce(jnp.maximum, [jnp.max(score, axis=-1, keepdims=True) for score in scores])
    weights = [jnp.exp(score - highest) for score in scores]
    return weights, reduce(jnp.add, [jnp.sum(w, axis=-1, keepdims=True) for w in weights])


def chunk_source(keys: Keys, values: Keys, window: int) -> Source:
    """The chunk's own tokens: each sees itself and `window` before it."""
    batch, length = keys.shape[:2]
    index = jnp.arange(length)
    back = index[:, None] - index[None, :]
    visible = (back >= 0) & (back <= window)
    return Source(keys, values, jnp.broadcast_to(visible, (batch, length, length)))


def ring_source(state: AttentionState, position: Position, length: int) -> Source:
    """The ring's tokens, as the `length` tokens that follow `position` see them.

    A slot's age is its distance from the chunk's first token: 1 for the token just before it.
    """
    window = state.keys.shape[1]
    slot = jnp.arange(window)
    age = 1 + (position.ring[:, None] - 1 - slot) % window
    known = age <= position.filled[:, None]
    reach = age[:, None] + jnp.arange(length)[:, None] <= window
    return Source(state.keys, state.values, known[:, None] & reach)


def prefill(
    queries: Queries,
    keys: Keys,
    values: Keys,
    state: Rings,
    position: Position,
    lengths: Lengths,
) -> tuple[Array, Rings]:
    """Attention of a chunk of each row, and the rings after the tokens that count.

    Returns:
        float32 [b t n h], meaningless past a row's length; the rings.
    """
    window = state.keys.shape[1]
    past = ring_source(rings.read(state, queries.dtype), position, keys.shape[1])
    own = chunk_source(keys, values, window)
    after = rings.write_chunk(state, keys, values, position, lengths)
    return attend(queries, (past, own)), after


def write_token(
    keys: Keys, values: Keys, state: Rings, position: Position, active: Active, dtype: DTypeLike
) -> tuple[TokenSources, Rings]:
    """Writes one token of each row, [b 1 h], into its ring, and returns what it attends to.

    What quantized rings hold is read in `dtype`.

    The ring is written before it is read, and what was overwritten is kept beside it. So XLA
    updates a donated ring in place; to read the old ring afterwards would cost a copy of it.
    """
    after, overwritten = rings.write_one(state, keys, values, position, active)
    window = state.keys.shape[1]
    ring, old = rings.read(after, dtype), rings.read(overwritten, dtype)
    own = rings.read(rings.to_storage(keys, values, state), dtype)
    known = jnp.arange(window) <= position.filled[:, None]
    full = (position.filled == window)[:, None]
    sources = TokenSources(
        ring=Source(ring.keys, ring.values, known[:, None]),
        overwritten=Source(old.keys, old.values, full[:, None]),
        own_key=own.keys,
        own_slot=position.ring,
    )
    return sources, after


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
