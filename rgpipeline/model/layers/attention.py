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

from rgpipeline.model.griffin_state import AttentionState, Position, Rings
from rgpipeline.model.layers import rings
from rgpipeline.model.layers.array_types import Active, Keys, Lengths, Mask, Queries
from rgpipeline.model.ops import primitives

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
    scores = [
        jnp.where(source.visible[:, :, None], _scores(queries, source.keys), _MASKED)
        for source in sources
    ]
    weights, total = _weights(scores)
    mixed = sum(
        primitives.contract("btns,bsh->btnh", weight.astype(source.values.dtype), source.values)
        for weight, source in zip(weights, sources, strict=True)
    )
    return jnp.asarray(mixed / total)


def attend_one(
    queries: Queries, sources: tuple[Source, Source], own_key: Keys, place: Array
) -> Array:
    """`attend` for one token of each row, over a ring and one token beside it, on a CPU.

    XLA's CPU backend runs a batched product as small as these on a single core, but on all of them
    where a sum or maximum follows that ends the batch's loop. So scores come as what they are below
    the highest of the ring: product, mask and maximum are one kernel, as long as nothing else needs
    the maximum. How far below it the other token is follows from a token whose distance is known.
    (A layer of 64 slots, window 512, 2 cores of a Zen 4: 1.9 ms against 3.6 in bfloat16, 3.5
    against 6.1 in float32.)

    Args:
        queries: [b 1 n h].
        sources: The ring and the token beside it.
        own_key: Each token's own key, [b 1 h], which it sees whatever else it sees.
        place: Where in the ring that key is, int32 [b].
    """
    ring, beside = sources
    batch, _, heads, _ = queries.shape
    scores = _scores(queries, ring.keys)[:, 0] + jnp.where(ring.visible, 0.0, _MASKED)
    below = scores - jnp.max(scores, axis=-1, keepdims=True)
    own = jnp.broadcast_to(place[:, None, None], (batch, heads, 1))
    own_below = jnp.take_along_axis(below, own, axis=-1)
    apart = _score(queries, beside.keys) - _score(queries, own_key)
    beside_below = jnp.where(beside.visible, apart + own_below, _MASKED)

    highest = jnp.maximum(beside_below, 0.0)
    weights, beside_weight = jnp.exp(below - highest), jnp.exp(beside_below - highest)
    total = jnp.sum(weights, axis=-1, keepdims=True) + beside_weight
    rounded = beside_weight.astype(beside.values.dtype).astype(jnp.float32)
    mixed = _mixed(weights, ring.values)
    # A select, though `beside_weight` is 0 where it isn't seen: without one, the sum of the halves
    # and the product that follows attention become one kernel, which takes longer.
    both = mixed + rounded * beside.values.astype(jnp.float32)
    return jnp.asarray(jnp.where(beside.visible, both, mixed) / total)[:, None]


def _scores(queries: Queries, keys: Array) -> Array:
    """Of each key [b s h] for each query, float32 [b t n s]."""
    return jnp.asarray(
        primitives.contract("btnh,bsh->btns", queries, keys) * queries.shape[-1] ** -0.5
    )


def _score(queries: Queries, key: Keys) -> Array:
    """`_scores` of one token [b 1 n h] and one key [b 1 h], without a product; float32 [b n 1]."""
    products = queries[:, 0].astype(jnp.float32) * key.astype(jnp.float32)
    return jnp.asarray(jnp.sum(products, axis=-1, keepdims=True) * queries.shape[-1] ** -0.5)


def _mixed(weights: Array, values: Array) -> Array:
    """The sum of `values` [b s h] by `weights` [b n s], float32 [b n h]: that of two halves."""
    batch, heads, length = weights.shape
    halves = 2 if length % 2 == 0 else 1
    weights = weights.astype(values.dtype).reshape(batch, heads, halves, -1)
    values = values.reshape(batch, halves, length // halves, -1)
    return jnp.sum(primitives.contract("bngs,bgsh->bgnh", weights, values), axis=1)


def _weights(scores: list[Array]) -> tuple[list[Array], Array]:
    """Each source's weights and the sum of all of them, with an axis of 1 for the keys."""
    most = [jnp.max(score, axis=-1, keepdims=True) for score in scores]
    highest = reduce(jnp.maximum, most)
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
    own_key = rings.read(rings.as_held(keys, values, state), queries.dtype).keys
    mixed: Array = lax.platform_dependent(
        *(queries, sources, own_key, position.ring),
        cpu=attend_one,
        default=_attend_ring,
    )
    return mixed, after


def _attend_ring(
    queries: Queries, sources: tuple[Source, Source], own_key: Array, place: Array
) -> Array:
    del own_key, place  # which CPUs need
    return attend(queries, sources)


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
