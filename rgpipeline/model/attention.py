"""Local multi-query attention over a ring of past keys and the tokens at hand.

A token attends to itself and to the `window` tokens before it: window + 1 keys, as the official
library has it (`modules._compute_causal_mask`). A chunk sees the ring as it was before it, beside
its own keys; the ring is written afterwards:

    ring   [ k5 k6 k7 | k0.. ]      window 4, ring = 2: slot 2 is the oldest and written next
    chunk  [ q8 q9 ]                q8 sees k4..k7 of the ring, and k8
"""

from functools import reduce
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from rgpipeline.model import layers, rings
from rgpipeline.model.shapes import Active, Keys, Lengths, Mask, Queries
from rgpipeline.model.state import AttentionState, Position, Rings

_MASKED = -2.3819763e38  # the official library's, finite so that no row can become NaN


class Source(NamedTuple):
    """Keys and values [b s h], and which of them each query may see, bool [b t s]."""

    keys: Array
    values: Array
    visible: Mask


def attend(queries: Queries, sources: tuple[Source, ...]) -> Array:
    """Softmax attention over several sources at once, without joining them in memory.

    Scores, maximum and sum are float32 (the official library's softmax is, too); the weights are
    rounded to the values' dtype for the product. Every query must see some key of some source.

    Returns:
        float32 [b t n h].
    """
    scale = queries.shape[-1] ** -0.5
    scores = [
        jnp.where(
            source.visible[:, :, None],
            layers.contract("btnh,bsh->btns", queries, source.keys) * scale,
            _MASKED,
        )
        for source in sources
    ]
    weights, total = _weights(scores, keys=-1)
    mixed = sum(
        layers.contract("btns,bsh->btnh", weight.astype(source.values.dtype), source.values)
        for weight, source in zip(weights, sources, strict=True)
    )
    return jnp.asarray(mixed / total)


def attend_one(queries: Queries, sources: tuple[Source, ...]) -> Array:
    """`attend` for one token of each row, with keys first: scores are [b s n].

    On a CPU, float32 keys on the right of a product are packed first, which takes three times as
    long as the product itself (2.1 ms against 0.5 for [64 512 128]).
    """
    scale = queries.shape[-1] ** -0.5
    scores = [
        jnp.where(
            source.visible[:, 0, :, None],
            layers.contract("bsh,bnh->bsn", source.keys, queries[:, 0]) * scale,
            _MASKED,
        )
        for source in sources
    ]
    weights, total = _weights(scores, keys=1)
    mixed = sum(
        layers.contract("bsn,bsh->bnh", weight, source.values)
        for weight, source in zip(weights, sources, strict=True)
    )
    return jnp.asarray(mixed / total.swapaxes(1, 2))[:, None]


def _weights(scores: list[Array], *, keys: int) -> tuple[list[Array], Array]:
    """Each source's weights and the sum of all of them; `keys` is the axis of keys, kept as 1."""
    most = [jnp.max(score, axis=keys, keepdims=True) for score in scores]
    highest = reduce(jnp.maximum, most)
    weights = [jnp.exp(score - highest) for score in scores]
    return weights, reduce(jnp.add, [jnp.sum(w, axis=keys, keepdims=True) for w in weights])


def chunk_source(keys: Keys, values: Keys, window: int) -> Source:
    """The chunk's own tokens: each sees itself and `window` before it."""
    batch, length = keys.shape[:2]
    index = jnp.arange(length)
    back = index[:, None] - index[None, :]
    visible = (back >= 0) & (back <= window)
    return Source(keys, values, jnp.broadcast_to(visible, (batch, length, length)))


def ring_source(state: AttentionState, position: Position, length: int) -> Source:
    """The ring's tokens, as the `length` tokens that follow `position` see them.

    A slot's age is its distance from the chunk's first token, 1 for the token just before it.
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
    """A chunk of each row: what its tokens gather, [b t n h], and the rings after those that count.

    Past a row's length what is gathered means nothing.
    """
    window = state.keys.shape[1]
    past = ring_source(rings.read(state, queries.dtype), position, keys.shape[1])
    own = chunk_source(keys, values, window)
    after = rings.write_chunk(state, keys, values, position, lengths)
    return attend(queries, (past, own)), after


def decode(
    queries: Queries,
    keys: Keys,
    values: Keys,
    state: Rings,
    position: Position,
    active: Active,
) -> tuple[Array, Rings]:
    """One token of each row: what it gathers, float32 [b 1 n h], and the rings with it."""
    after, overwritten = rings.write_one(state, keys, values, position, active)
    sources = decode_sources(
        rings.read(after, queries.dtype), rings.read(overwritten, queries.dtype), position
    )
    if queries.dtype != jnp.float32:
        return attend(queries, sources), after
    mixed: Array = lax.platform_dependent(queries, sources, cpu=attend_one, default=attend)
    return mixed, after


def decode_sources(
    after: AttentionState, overwritten: AttentionState, position: Position
) -> tuple[Source, Source]:
    """What one token sees once `write_one` has put it into the ring: itself, and all before it.

    The ring is written before it is read, and what was overwritten stands beside it: so XLA
    updates a donated ring in place, where reading the old one later would cost a copy of it.
    """
    window = after.keys.shape[1]
    known = jnp.arange(window) <= position.filled[:, None]
    full = (position.filled == window)[:, None]
    return (
        Source(after.keys, after.values, known[:, None]),
        Source(overwritten.keys, overwritten.values, full[:, None]),
    )
