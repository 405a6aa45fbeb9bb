"""What a request does to the model's distribution: bias, penalties, bans, then truncation.

Top-k, top-p and min-p need no sort. The threshold comes from the few most probable tokens. Only
where these don't decide it, it comes from a bisection over the values that floats can take.
"""

from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rgpipeline.engine.slot_fields import IN_PROMPT, SamplingFeatures, SlotFields

CANDIDATES = 64
LOWEST = float(np.finfo(np.float32).min)


Fields = TypeVar("Fields", "Shaping", "Limits")


class Shaping(NamedTuple):
    """The fields of the slots that change their logits."""

    logit_bias: jax.Array  # [s, v] or [s, 0]
    seen: jax.Array  # [s, v] or [s, 0]
    repetition_penalty: jax.Array  # [s], as the next two
    presence_penalty: jax.Array
    frequency_penalty: jax.Array


class Limits(NamedTuple):
    """The fields of the slots that cut their distributions; each is [s]."""

    top_k: jax.Array
    top_p: jax.Array
    min_p: jax.Array


def operands(kind: type[Fields], slots: SlotFields) -> Fields:
    """The fields of the slots that `kind` names: a program gets no others."""
    return kind(**{name: getattr(slots, name) for name in kind._fields})


def adjust_logits(
    logits: jax.Array, shaping: Shaping, banned: jax.Array, *, features: SamplingFeatures
) -> jax.Array:
    """Logits with bias, penalties (repetition as in Keskar et al., 2019) and bans."""
    if features.bias:
        logits = logits + shaping.logit_bias
    if features.penalties:
        rate = jnp.where(shaping.seen > 0, shaping.repetition_penalty[:, None], 1.0)
        logits = jnp.where(logits > 0, logits / rate, logits * rate)
        generated = shaping.seen & (IN_PROMPT - 1)
        logits = logits - shaping.frequency_penalty[:, None] * generated
        logits = logits - shaping.presence_penalty[:, None] * (generated > 0)
    return _ban(logits, banned) if features.bans else logits


def _ban(logits: jax.Array, banned: jax.Array) -> jax.Array:
    """Logits with the banned ids (int32 [s, i]; -1 is none) out of reach."""
    rows = jnp.arange(logits.shape[0])[:, None]
    ids = jnp.where(banned < 0, logits.shape[1], banned)
    return logits.at[rows, ids].set(LOWEST, mode="drop")


def truncate(scaled: jax.Array, limits: Limits, cuts: jax.Array) -> jax.Array:
    """Scaled logits [s, v]; where `cuts` (bool [s]), what the limits drop is out of reach."""
    threshold = jnp.where(cuts, _threshold(scaled, limits, cuts), LOWEST)
    return jnp.where(scaled >= threshold[:, None], scaled, LOWEST)


def _threshold(scaled: jax.Array, limits: Limits, cuts: jax.Array) -> jax.Array:
    """Smallest scaled logit that top-k, then top-p, then min-p keep, for each slot.

    Ties with the last token kept are kept. Each row's threshold depends on that row alone: the
    bisection is skipped only when no row wants it, and used only by the rows that do.
    """
    largest = jnp.max(scaled, axis=-1)
    weight = jnp.exp(scaled - largest[:, None])
    top = lax.top_k(scaled, min(CANDIDATES, scaled.shape[-1]))[0]
    by_k, k_decided = _top_k_threshold(top, limits.top_k, scaled.shape[-1])
    by_k = _where_undecided(
        k_decided | ~cuts, by_k, lambda: _bisect(scaled, jnp.ones_like(scaled), limits.top_k)
    )
    kept = jnp.where(scaled >= by_k[:, None], weight, 0.0)
    mass = limits.top_p * jnp.sum(kept, axis=-1)
    by_p, p_decided = _top_p_threshold(top, largest, by_k, mass)
    p_decided |= (limits.top_p >= 1.0) | ~cuts
    by_p = jnp.where(limits.top_p >= 1.0, LOWEST, by_p)
    by_p = _where_undecided(p_decided, by_p, lambda: _bisect(scaled, kept, mass))
    by_min = largest + jnp.log(limits.min_p)
    return jnp.minimum(jnp.maximum(jnp.maximum(by_k, by_p), by_min), largest)


def _top_k_threshold(top: jax.Array, top_k: jax.Array, vocab: int) -> tuple[jax.Array, jax.Array]:
    """The k-th largest value where the candidates hold it, and whether they do."""
    candidates = top.shape[-1]
    wanted = jnp.where((top_k <= 0) | (top_k > vocab), vocab, top_k)
    index = jnp.clip(wanted - 1, 0, candidates - 1)
    value = jnp.take_along_axis(top, index[:, None], axis=1)[:, 0]
    everything = wanted == vocab
    return jnp.where(everything, LOWEST, value), everything | (wanted <= candidates)


def _top_p_threshold(
    top: jax.Array, largest: jax.Array, by_k: jax.Array, mass: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The value at which the candidates' weight reaches `mass`, and whether it does."""
    weight = jnp.where(top >= by_k[:, None], jnp.exp(top - largest[:, None]), 0.0)
    reached = jnp.cumsum(weight, axis=-1) >= mass[:, None]
    index = jnp.argmax(reached, axis=-1)
    value = jnp.take_along_axis(top, index[:, None], axis=1)[:, 0]
    return value, jnp.any(reached, axis=-1)


def _where_undecided(decided: jax.Array, value: jax.Array, otherwise: object) -> jax.Array:
    assert callable(otherwise)
    exact = lax.cond(jnp.all(decided), lambda: value, otherwise)
    return jnp.where(decided, value, exact)


def _bisect(scaled: jax.Array, weight: jax.Array, wanted: jax.Array) -> jax.Array:
    """Largest t with sum(weight[scaled >= t]) >= wanted, exactly, in 32 passes. [s, v] -> [s]."""
    keys = _ordered(scaled)
    wanted = wanted.astype(jnp.float32)

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds  # low satisfies, high does not
        middle = low + ((high - low) >> 1)
        total = jnp.sum(jnp.where(keys >= middle[:, None], weight, 0.0), axis=-1)
        enough = total >= wanted
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    low = jnp.zeros(scaled.shape[:1], jnp.uint32)
    high = jnp.full(scaled.shape[:1], 0xFFFFFFFF, jnp.uint32)
    low, _ = lax.fori_loop(0, 32, halve, (low, high))
    return _unordered(low)


def _ordered(values: jax.Array) -> jax.Array:
    """Unsigned integers in the order of the floats."""
    bits = lax.bitcast_convert_type(values, jnp.uint32)
    return jnp.where(bits >> 31 == 1, ~bits, bits | jnp.uint32(1 << 31))


def _unordered(keys: jax.Array) -> jax.Array:
    bits = jnp.where(keys >> 31 == 1, keys ^ jnp.uint32(1 << 31), ~keys)
    values = lax.bitcast_convert_type(bits, jnp.float32)
    return jnp.where(jnp.isnan(values), LOWEST, values)
