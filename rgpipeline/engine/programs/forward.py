"""The programs that run on the device: prefill, decode, assign, score; others are in `moves`.

Pure functions of parameters and state with one fixed shape each. In none of them does a row's
arithmetic touch another row's, so a sequence's bits don't depend on its slot or its neighbours.

Where a worker has several chips, these run on each of them, with its part of everything (see
`model.sharding`); numbers of slots are the worker's all the same.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from rgpipeline.engine.api import FAILED, GOES_ON, IDLE, LAST, STOPPED
from rgpipeline.engine.sampling.next_token import next_tokens
from rgpipeline.engine.sampling.sampler import Sampled, count_token
from rgpipeline.engine.sampling.vocabulary_shards import joined_softmax, share_of_softmax
from rgpipeline.engine.slot_fields import SamplingFeatures
from rgpipeline.engine.slot_state import SlotState, beside
from rgpipeline.model.collectives import Chips
from rgpipeline.model.griffin_state import GriffinState
from rgpipeline.model.layers.griffin import Griffin
from rgpipeline.model.ops import row_writes
from rgpipeline.model.sharding import map_rows

Params = Any


class Steps(NamedTuple):
    """What a block of k decode steps brings."""

    codes: jax.Array  # int8 [k, s]
    sampled: Sampled  # of [k, s, ...]


def prefill(
    model: Griffin,
    params: Params,
    buffer: GriffinState,
    tokens: jax.Array,
    lengths: jax.Array,
    buffer_rows: jax.Array,
    fresh: jax.Array,
) -> GriffinState:
    """Continues the buffer_rows of a pack by its chunks; shapes as in `api.PrefillPack`."""
    return score(model, params, buffer, tokens, lengths, buffer_rows, fresh)[0]


def score(
    model: Griffin,
    params: Params,
    buffer: GriffinState,
    tokens: jax.Array,
    lengths: jax.Array,
    buffer_rows: jax.Array,
    fresh: jax.Array,
) -> tuple[GriffinState, jax.Array]:
    """As `prefill`, with the hidden values of all positions after the final norm, [r t d]."""
    chips = model.chips

    def of_leaf(by_chip: bool, leaf: jax.Array) -> jax.Array:
        """Where the buffer_rows' rows are in `leaf`; past its end if they are not wanted."""
        wanted = chips.local_slice(buffer_rows) if by_chip else buffer_rows
        return wanted - chips.first_slot(leaf.shape[0], by_chip)

    def read(by_chip: bool, leaf: jax.Array) -> jax.Array:
        """The rows; those whose prompt begins now hold nothing of the place's last one."""
        row = leaf.at[of_leaf(by_chip, leaf)].get(mode="clip")
        begins = beside(chips.local_slice(fresh) if by_chip else fresh, row)
        return jnp.where(begins, jnp.zeros((), row.dtype), row)

    def write(by_chip: bool, leaf: jax.Array, row: jax.Array) -> jax.Array:
        return row_writes.set_rows(leaf, of_leaf(by_chip, leaf), row)

    rows = map_rows(read, buffer)
    hidden, rows = _apply(model, params, "prefill", tokens, lengths, rows)
    after: GriffinState = map_rows(write, buffer, rows)
    return after, hidden


def decode(
    model: Griffin,
    params: Params,
    state: SlotState,
    steps: jax.Array | None = None,
    *,
    most: int,
    features: SamplingFeatures,
) -> tuple[SlotState, Steps]:
    """A token a step for every active slot; a slot that ends goes idle within the block.

    Args:
      model, params, state: as everywhere.
      steps: how many, int32 scalar in [1, most]; None for `most`.
      most: rows of what it brings; those beyond `steps` mean nothing.
      features: what the sampler must be able to do.
    """

    chips = model.chips

    def step(state: SlotState, _: None) -> tuple[SlotState, Steps]:
        token, active = state.slots.token, state.slots.active
        held = _kept_in_the_loop(params, token)
        hidden, griffin = _apply(model, held, "decode", token, active, state.model)
        state = state._replace(model=griffin)
        return _advance(state, next_tokens(model, held, hidden, state, features), features, chips)

    return repeated(step, state, steps, most)


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
    state: SlotState, sampled: Sampled, features: SamplingFeatures, chips: Chips
) -> tuple[SlotState, Steps]:
    slots = state.slots
    failed, active = sampled.token < 0, slots.active
    token = jnp.maximum(sampled.token, 0)
    stopped = jnp.any(token[:, None] == slots.stop_ids, axis=-1)
    remaining = jnp.where(active & (slots.remaining > 0), slots.remaining - 1, slots.remaining)
    last = ~stopped & (remaining == 0)
    ending = jnp.where(stopped, STOPPED, jnp.where(last, LAST, GOES_ON))
    ending = jnp.where(failed, FAILED, ending)
    codes = jnp.where(active, ending, IDLE).astype(jnp.int8)
    slots = replace(
        slots,
        token=jnp.where(active, token, slots.token),
        active=active & ~stopped & ~last & ~failed,
        remaining=remaining,
        banned_for=jnp.maximum(slots.banned_for - active, 0),
    )
    slots = count_token(slots, *chips.local_slice((token, active)), features)
    state = state._replace(slots=slots)
    return state, Steps(codes, sampled)


def log_probabilities(
    model: Griffin, params: Params, hidden: jax.Array, positions: jax.Array, targets: jax.Array
) -> jax.Array:
    """Log-probabilities of tokens that follow some of a pack's positions.

    Args:
      model, params: as everywhere.
      hidden: of a pack, as `score` returns it, float32 [r t d].
      positions: int32 [n], indices into the flattened r and t.
      targets: int32 [n], the tokens.

    Returns:
      float32 [n].
    """
    chosen = hidden.reshape(-1, hidden.shape[-1])[positions]
    logits: jax.Array = _apply(model, params, "logits", chosen)
    share = share_of_softmax(logits, targets - model.chips.axis_index() * logits.shape[-1])
    return joined_softmax(model.chips.all_gather(share))


def _apply(model: Griffin, params: Params, method: str, *arguments: Any) -> Any:
    return model.apply({"params": params}, *arguments, method=method)


State = TypeVar("State")
Made = TypeVar("Made")


def repeated(
    step: Callable[[State, None], tuple[State, Made]],
    state: State,
    steps: jax.Array | None,
    most: int,
) -> tuple[State, Made]:
    """What `lax.scan(step, state, length=steps)` gives, where `steps` may come with the call.

    The same program does any number, and what a step computes doesn't depend on it: so a clock may
    choose it. A number that is known is better where the host would have to follow the loop's turns
    (a GPU).

    Args:
      step: from a state to the next and what it makes, a tree of arrays.
      state: to begin with.
      steps: int32 scalar in [1, most]; None for `most`.
      most: rows of every array that is made; those beyond `steps` mean nothing.
    """
    if steps is None:
        return lax.scan(step, state, length=most)
    step = jax.jit(step, inline=True)  # traced for its shapes, and not again in the loop
    one = jax.eval_shape(step, state, None)[1]
    rows = jax.tree.map(lambda leaf: jnp.zeros((most, *leaf.shape), leaf.dtype), one)

    def turn(index: jax.Array, carried: tuple[State, Made]) -> tuple[State, Made]:
        def put(rows: jax.Array, row: jax.Array) -> jax.Array:
            return jnp.asarray(lax.dynamic_update_index_in_dim(rows, row, index, 0))

        state, made = step(carried[0], None)
        return state, jax.tree.map(put, carried[1], made)

    done: tuple[State, Made] = lax.fori_loop(0, steps, turn, (state, rows))
    return done
