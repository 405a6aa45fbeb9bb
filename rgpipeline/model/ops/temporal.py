"""The temporal half of a block between its projections: by a kernel, or as in `layers`."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from rgpipeline.model.griffin_state import Position, RecurrentState, Rings
from rgpipeline.model.kernels import (
    decode_attention,
    prefill_attention,
    recurrence,
    recurrence_scan,
    ring_copies,
)
from rgpipeline.model.layers import attention, rglru, rings
from rgpipeline.model.layers.array_types import Active, Keys, Lengths, Queries, Start
from rgpipeline.model.layers.attention import MASKED, TokenSources, scores
from rgpipeline.model.layers.rglru import RecurrentWeights
from rgpipeline.model.ops.primitives import einsum
from rgpipeline.model.platforms import Kernels, on_tpu

_PART_KEYS = 256  # in each product of weights and values on a CPU


def recurrent_prefill(
    projected: Array,
    weights: RecurrentWeights,
    starts: Start,
    lengths: Lengths,
    state: RecurrentState,
    kernels: Kernels,
) -> tuple[Array, RecurrentState]:
    """`rglru.prefill`; its output [b t e] is in the dtype of `projected` or float32."""
    fused = recurrence_scan.select(kernels, projected.shape[1], state, weights.gates)
    if fused is not None:
        both = jnp.moveaxis(projected, 2, 0)
        return fused(both, weights, starts[:, 0], lengths, state)
    scan = recurrence_scan.select_on_gpu(kernels) or rglru.scan
    return rglru.prefill(projected, weights, starts, lengths, state, scan)


def recurrent_decode(
    projected: Array,
    weights: RecurrentWeights,
    starts: Start,
    active: Active,
    state: RecurrentState,
    kernels: Kernels,
) -> tuple[Array, RecurrentState]:
    """`rglru.decode`; its output [b 1 e] is in the dtype of `projected` or float32."""
    fused = recurrence.select(kernels, state, weights.gates)
    if fused is not None:
        both = jnp.moveaxis(projected, 2, 0)[:, :, 0]
        out, after = fused(both, weights, starts[:, 0], active, state)
        return out[:, None], after
    return rglru.decode(projected, weights, starts, active, state)


class PrefillAttention(NamedTuple):
    """An implementation of a chunk's attention.

    Attributes:
        applies_rope: Whether `run` applies RoPE itself.
        run: Of the arguments of `attention.prefill`; if it applies RoPE itself, of those of
            `kernels.prefill_attention.prefill`.
    """

    applies_rope: bool
    run: Callable[..., tuple[Array, Rings]]


def attention_prefill(
    length: int, state: Rings, dtype: DTypeLike, kernels: Kernels
) -> PrefillAttention:
    """The implementation for chunks of `length` tokens, these rings and activations in `dtype`."""
    fused = prefill_attention.select(kernels, length, state.keys.shape, dtype)
    if fused is not None:
        return PrefillAttention(True, partial(_fused_prefill, fused, dtype))
    return PrefillAttention(False, _finite_prefill if on_tpu(kernels) else attention.prefill)


def _fused_prefill(
    fused: prefill_attention.Prefill,
    dtype: DTypeLike,
    queries: Array,
    key_value: Array,
    angles: attention.Angles,
    state: Rings,
    position: Position,
    lengths: Lengths,
) -> tuple[Array, Rings]:
    """The kernel's, for rings of any dtype: quantized ones are read before, written after it."""
    floats = rings.read(state, dtype)
    mixed, floats = fused(queries, key_value, angles, floats, position, lengths)
    return mixed, rings.requantize(state, floats, position, lengths)


def _finite_prefill(
    queries: Array, keys: Array, values: Array, state: Rings, position: Position, lengths: Lengths
) -> tuple[Array, Rings]:
    """`attention.prefill` that writes finite numbers only, as `decode_attention` requires."""
    keys, values = ring_copies.finite(keys), ring_copies.finite(values)
    return attention.prefill(queries, keys, values, state, position, lengths)


def attention_decode(
    queries: Array,
    keys: Array,
    values: Array,
    state: Rings,
    position: Position,
    active: Active,
    kernels: Kernels,
) -> tuple[Array, Rings]:
    """Attention of one token of each row, float32 [b 1 n h], and the rings with it.

    Args:
        queries: [b 1 n h], after RoPE.
        keys, values: [b 1 h].
        state: The rings before the token; donate them, and they are updated in place.
        position: Where each row is before the token.
        active: Rows that are not keep their rings; their output is meaningless.
        kernels: Which Pallas kernels may be used.
    """
    fused = decode_attention.select(kernels, state)
    if fused is not None:
        return fused(queries, keys, values, state, position, active)
    sources, after = attention.write_token(keys, values, state, position, active, queries.dtype)
    mixed: Array = lax.platform_dependent(
        queries, sources, cpu=attend_token_on_cpu, default=attention.attend_token
    )
    return mixed, after


def attend_token_on_cpu(queries: Queries, sources: TokenSources) -> Array:
    """As `attention.attend_token`.

    XLA's CPU backend runs a batched product as small as these on a single core, but on all cores
    where a sum or maximum follows that ends the batch's loop. So scores are computed relative to
    the ring's highest: product, mask and maximum are then one kernel, provided nothing else needs
    the maximum. The score of the overwritten token, relative to the same maximum, follows from that
    of a token which is both in the ring and at hand: the new one. (A layer of 64 slots, window 512,
    2 cores of a Zen 4: 1.9 ms against 3.6 in bfloat16, 3.5 against 6.1 in float32.)
    """
    ring, overwritten, own_key, own_slot = sources
    batch, _, heads, _ = queries.shape
    masked = scores(queries, ring.keys)[:, 0] + jnp.where(ring.visible, 0.0, MASKED)
    below = masked - jnp.max(masked, axis=-1, keepdims=True)
    own = jnp.broadcast_to(own_slot[:, None, None], (batch, heads, 1))
    own_below = jnp.take_along_axis(below, own, axis=-1)
    apart = _score(queries, overwritten.keys) - _score(queries, own_key)
    old_below = jnp.where(overwritten.visible, apart + own_below, MASKED)

    highest = jnp.maximum(old_below, 0.0)
    weights, old_weight = jnp.exp(below - highest), jnp.exp(old_below - highest)
    total = jnp.sum(weights, axis=-1, keepdims=True) + old_weight
    rounded = old_weight.astype(overwritten.values.dtype).astype(jnp.float32)
    mixed = _mix(weights, ring.values)
    # A select, although `old_weight` is 0 where the token isn't visible: without it, XLA makes the
    # sum of the halves and the product that follows attention one kernel, which takes longer.
    both = mixed + rounded * overwritten.values.astype(jnp.float32)
    return jnp.asarray(jnp.where(overwritten.visible, both, mixed) / total)[:, None]


def _score(queries: Queries, key: Keys) -> Array:
    """`scores` of one token [b 1 n h] and one key [b 1 h], without a product; float32 [b n 1]."""
    products = queries[:, 0].astype(jnp.float32) * key.astype(jnp.float32)
    return jnp.asarray(jnp.sum(products, axis=-1, keepdims=True) * queries.shape[-1] ** -0.5)


def _mix(weights: Array, values: Array) -> Array:
    """The sum of `values` [b s h] by `weights` [b n s], float32 [b n h]: that of several parts.

    At least two, so that a sum follows the product, as above. Long parts take longer. (Attention
    of 16 slots, window 2048, 10 heads of 256, CPU time on a Xeon with AMX: with eight parts 7.3 ms,
    with two 10.7, in bfloat16; 16.5 and 18.7 in float32.)
    """
    batch, heads, length = weights.shape
    parts = max(length // _PART_KEYS, 2)
    parts = parts if length % parts == 0 else 1
    weights = weights.astype(values.dtype).reshape(batch, heads, parts, -1)
    values = values.reshape(batch, parts, length // parts, -1)
    return jnp.sum(einsum("bngs,bgsh->bgnh", weights, values), axis=1)
