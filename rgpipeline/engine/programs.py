"""The programs that run on the device: prefill, decode, assign, extract, insert, score.

Pure functions of parameters and state with one fixed shape each. In none of them does a row's
arithmetic touch another row's, so a sequence's bits don't depend on its slot or its neighbours.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rgpipeline.engine.api import GOES_ON, IDLE, LAST, STOPPED
from rgpipeline.engine.features import SamplingFeatures
from rgpipeline.engine.sampling import Sampled, count_token, sample
from rgpipeline.engine.state import SlotState
from rgpipeline.model.griffin import Griffin
from rgpipeline.model.state import GriffinState

Params = Any


class Steps(NamedTuple):
    """What a block of k decode steps brings."""

    codes: jax.Array  # int8 [k, s]
    sampled: Sampled  # of [k, s, ...]


def prefill(
    model: Griffin,
    params: Params,
    state: SlotState,
    tokens: jax.Array,
    lengths: jax.Array,
    slots: jax.Array,
    fresh: jax.Array,
) -> SlotState:
    """Continues the slots of a pack by its chunks; shapes as in `api.PrefillPack`."""
    rows = jax.tree.map(lambda leaf: leaf.at[slots].get(mode="clip"), state.model)
    rows = _forget(rows, fresh)
    _, rows = model.apply({"params": params}, tokens, lengths, rows, method="prefill")
    model_state = jax.tree.map(
        lambda leaf, row: leaf.at[slots].set(row, mode="drop", unique_indices=True),
        state.model,
        rows,
    )
    return state._replace(model=model_state)


def _forget(rows: GriffinState, fresh: jax.Array) -> GriffinState:
    """Rows whose sequence begins now hold nothing of the slot's last tenant."""

    def zero(leaf: jax.Array) -> jax.Array:
        wide = fresh.reshape(fresh.shape + (1,) * (leaf.ndim - 1))
        return jnp.where(wide, jnp.zeros((), leaf.dtype), leaf)

    return jax.tree.map(zero, rows)


def decode(
    model: Griffin,
    params: Params,
    state: SlotState,
    *,
    steps: int,
    features: SamplingFeatures,
) -> tuple[SlotState, Steps]:
    """`steps` tokens for every active slot; a slot that ends goes idle within the block."""

    def step(state: SlotState, _: None) -> tuple[SlotState, Steps]:
        hidden, griffin = model.apply(
            {"params": params}, state.token, state.active, state.model, method="decode"
        )
        logits = model.apply({"params": params}, hidden, method="logits")
        # The sampler must not change how the logits are computed: jobs that sample differently,
        # and neighbours that ask for more features, get the same logits to the last bit.
        logits = lax.optimization_barrier(logits)
        banned = jnp.where(state.banned_for[:, None] > 0, state.stop_ids, -1)
        sampled = sample(logits, state.sampling, griffin.position, banned, features)
        return _advance(state._replace(model=griffin), sampled, features)

    return lax.scan(step, state, length=steps)


def _advance(
    state: SlotState, sampled: Sampled, features: SamplingFeatures
) -> tuple[SlotState, Steps]:
    token, active = sampled.token, state.active
    stopped = jnp.any(token[:, None] == state.stop_ids, axis=-1)
    remaining = jnp.where(active & (state.remaining > 0), state.remaining - 1, state.remaining)
    last = ~stopped & (remaining == 0)
    ending = jnp.where(stopped, STOPPED, jnp.where(last, LAST, GOES_ON))
    codes = jnp.where(active, ending, IDLE).astype(jnp.int8)
    state = state._replace(
        token=jnp.where(active, token, state.token),
        active=active & ~stopped & ~last,
        remaining=remaining,
        banned_for=jnp.maximum(state.banned_for - active, 0),
        sampling=count_token(state.sampling, token, active, features),
    )
    return state, Steps(codes, sampled)


def assign(state: SlotState, chosen: jax.Array, settings: SlotState) -> SlotState:
    """Takes over all per-slot settings where `chosen` (bool [s]); `settings.model` is unused."""

    def take(old: jax.Array, new: jax.Array) -> jax.Array:
        return jnp.where(chosen.reshape(chosen.shape + (1,) * (old.ndim - 1)), new, old)

    kept = ("bias", "seen")
    sampling = {
        name: getattr(state.sampling, name)
        if name in kept
        else take(getattr(state.sampling, name), getattr(settings.sampling, name))
        for name in state.sampling._fields
    }
    return state._replace(
        token=take(state.token, settings.token),
        active=take(state.active, settings.active),
        remaining=take(state.remaining, settings.remaining),
        banned_for=take(state.banned_for, settings.banned_for),
        stop_ids=take(state.stop_ids, settings.stop_ids),
        sampling=state.sampling._replace(**sampling),
    )


def assign_vocabulary_rows(
    state: SlotState, slot: jax.Array, bias: jax.Array, seen: jax.Array
) -> SlotState:
    """Sets one slot's logit bias (float32 [v] or [0]) and token counts (int32 [v] or [0])."""
    sampling = state.sampling._replace(
        bias=state.sampling.bias.at[slot].set(bias),
        seen=state.sampling.seen.at[slot].set(seen),
    )
    return state._replace(sampling=sampling)


def extract(state: SlotState, slot: jax.Array) -> GriffinState:
    """A copy of one slot's model state, with a batch axis of 1."""
    return jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, slot, 1), state.model)


def insert(state: SlotState, slot: jax.Array, rows: GriffinState) -> SlotState:
    """Puts a copied state into a slot."""
    model = jax.tree.map(
        lambda leaf, row: lax.dynamic_update_slice_in_dim(leaf, row, slot, 0), state.model, rows
    )
    return state._replace(model=model)


def score(
    model: Griffin,
    params: Params,
    rows: GriffinState,
    tokens: jax.Array,
    targets: jax.Array,
    lengths: jax.Array,
) -> tuple[GriffinState, jax.Array]:
    """One chunk of texts: log-probabilities float32 [r, t] of `targets` given all before them."""
    hidden, rows = model.apply({"params": params}, tokens, lengths, rows, method="prefill")

    def one_text(text: tuple[jax.Array, jax.Array]) -> jax.Array:
        hidden, targets = text
        logits = model.apply({"params": params}, hidden, method="logits")
        logprobs = jax.nn.log_softmax(logits, axis=-1)
        return jnp.take_along_axis(logprobs, targets[:, None], axis=-1)[:, 0]

    # Text by text, so that only one text's logits [t, v] exist at a time.
    return rows, lax.map(one_text, (hidden, targets))
