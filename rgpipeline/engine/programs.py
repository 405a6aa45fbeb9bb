"""The programs that run on the device: prefill, decode, assign, extract, insert, score.

Pure functions of parameters and state with one fixed shape each. In none of them does a row's
arithmetic touch another row's, so a sequence's bits don't depend on its slot or its neighbours.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rgpipeline.engine.api import GOES_ON, IDLE, LAST, STOPPED
from rgpipeline.engine.blockwise import noise, rate_of, token_of
from rgpipeline.engine.features import SamplingFeatures
from rgpipeline.engine.fences import fenced
from rgpipeline.engine.sampling import Sampled, SamplingState, count_token, only_token, sample
from rgpipeline.engine.state import SlotState
from rgpipeline.engine.tenancies import Settings
from rgpipeline.model.griffin import Griffin
from rgpipeline.model.kernels import head
from rgpipeline.model.state import GriffinState, Position

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
    _, rows = _apply(model, params, "prefill", tokens, lengths, rows)
    model_state = jax.tree.map(
        lambda leaf, row: leaf.at[slots].set(row, mode="drop", unique_indices=True),
        state.model,
        rows,
    )
    return state._replace(model=model_state)


def _forget(rows: GriffinState, fresh: jax.Array) -> GriffinState:
    """Rows whose sequence begins now hold nothing of the slot's last tenant."""

    def zero(leaf: jax.Array) -> jax.Array:
        return jnp.where(_beside(fresh, leaf), jnp.zeros((), leaf.dtype), leaf)

    kept: GriffinState = jax.tree.map(zero, rows)
    return kept


def decode(
    model: Griffin,
    params: Params,
    state: SlotState,
    *,
    steps: int,
    features: SamplingFeatures,
) -> tuple[SlotState, Steps]:
    """`steps` tokens for every active slot; a slot that ends goes idle within the block."""

    def logits_of(params: Params, hidden: jax.Array) -> jax.Array:
        return jnp.asarray(_apply(model, params, "logits", hidden))

    def step(state: SlotState, _: None) -> tuple[SlotState, Steps]:
        held = _kept_in_the_loop(params, state.token)
        hidden, griffin = _apply(model, held, "decode", state.token, state.active, state.model)
        chosen = _chosen(model, held, hidden, state, griffin.position)
        if chosen is not None and not features.read_logits:
            return _advance(state._replace(model=griffin), only_token(chosen), features)
        unused = jnp.zeros((hidden.shape[0], model.config.vocab_size), jnp.float32)
        logits = fenced(jnp.any(state.active), logits_of, held, hidden, otherwise=unused)
        banned = jnp.where(state.banned_for[:, None] > 0, state.stop_ids, -1)
        sampled = sample(
            *(logits, state.sampling, griffin.position, banned, state.active, features, chosen)
        )
        return _advance(state._replace(model=griffin), sampled, features)

    return lax.scan(step, state, length=steps)


def _chosen(
    model: Griffin, params: Params, hidden: jax.Array, state: SlotState, position: Position
) -> jax.Array | None:
    """Tokens that the head draws itself, int32 [s]; None if it has no kernel that can."""
    table = params["embedder"]["embedding"]
    choose = head.chosen(model.kernels, hidden.shape[0], table, model.config.logits_soft_cap)
    if choose is None:
        return None

    def draw(
        table: jax.Array, hidden: jax.Array, sampling: SamplingState, position: Position
    ) -> jax.Array:
        rate = rate_of(sampling.temperature)
        gumbel, uniform = noise(sampling.draw, position, -(-table.shape[0] // head.BLOCK))
        return token_of(choose(hidden, table, rate, gumbel), rate, uniform)

    needed, operands = jnp.any(state.active), (table, hidden, state.sampling, position)
    return fenced(needed, draw, *operands, otherwise=state.token)


def _kept_in_the_loop(params: Params, token: jax.Array) -> Params:
    """The parameters, as if they came anew with every step's token.

    XLA's CPU backend moves what it does with parameters alone out of the loop. For bfloat16 that is
    copies of all matrices in another layout: twice the memory, and steps three times as long.
    """

    def tie(params: Params, token: jax.Array) -> Params:
        tied: Params = lax.optimization_barrier((params, token))[0]  # type: ignore[no-untyped-call]
        return tied

    return lax.platform_dependent(params, token, cpu=tie, default=lambda params, _: params)


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


def assign(state: SlotState, chosen: jax.Array, settings: Settings) -> SlotState:
    """Takes over settings, by the names of the state's fields, where `chosen` (bool [s])."""

    def take(fields: Any) -> Any:
        return {
            name: jnp.where(_beside(chosen, old), settings[name], old)
            for name, old in fields._asdict().items()
            if name in settings
        }

    sampling = state.sampling._replace(**take(state.sampling))
    return state._replace(sampling=sampling, **take(state))


def _beside(per_slot: jax.Array, leaf: jax.Array) -> jax.Array:
    """`per_slot` [s] with as many axes as `leaf` [s ...], to be broadcast over them."""
    return per_slot.reshape(per_slot.shape + (1,) * (leaf.ndim - 1))


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
    rows: GriffinState = jax.tree.map(
        lambda leaf: lax.dynamic_slice_in_dim(leaf, slot, 1), state.model
    )
    return rows


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
    hidden, rows = _apply(model, params, "prefill", tokens, lengths, rows)

    def one_text(text: tuple[jax.Array, jax.Array]) -> jax.Array:
        hidden, targets = text
        held = _kept_in_the_loop(params, targets)
        logits: jax.Array = _apply(model, held, "logits", hidden)
        logprobs = jax.nn.log_softmax(logits, axis=-1)
        return jnp.take_along_axis(logprobs, targets[:, None], axis=-1)[:, 0]

    # Text by text, so that only one text's logits [t, v] exist at a time.
    return rows, lax.map(one_text, (hidden, targets))


def _apply(model: Griffin, params: Params, method: str, *arguments: Any) -> Any:
    return model.apply({"params": params}, *arguments, method=method)
