"""The programs that run the model: prefill, decode, read. `slot_state` has those that copy states.

Pure functions of parameters and state, each with one fixed shape. A row's arithmetic never touches
another row's, so a sequence's bits don't depend on its slot or its neighbours.

Where a worker has several chips, these run on each of them, with its part of everything (see
`model.sharding`); slots and rows are numbered over the whole worker all the same.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from rgpipeline.engine.decoded import FAILED, GOES_ON, IDLE, LAST, STOPPED, DecodedBlock
from rgpipeline.engine.sampling.next_token import next_tokens
from rgpipeline.engine.sampling.sampler import Sampled, count_token
from rgpipeline.engine.slot_fields import SamplingFeatures
from rgpipeline.engine.slot_state import SlotState, beside
from rgpipeline.model.collectives import Chips
from rgpipeline.model.griffin_state import GriffinState
from rgpipeline.model.layers.griffin import Griffin
from rgpipeline.model.ops import row_writes
from rgpipeline.model.sharding import map_rows
from rgpipeline.records import TokenLogprobs

Params = Any
State = TypeVar("State")
Made = TypeVar("Made")


class Steps(NamedTuple):
    """The results of k decode steps."""

    codes: jax.Array  # int8 [k, s]
    sampled: Sampled  # of [k, s, ...]


@dataclass(frozen=True, slots=True)
class DeviceBlock:
    """`decoded.PendingBlock` of a GriffinEngine."""

    steps: Steps
    count: int  # steps that were run
    rows_per_slot: int  # the first row of each is the slot's

    def read(self) -> DecodedBlock:
        found = jax.device_get(self.steps)
        steps = jax.tree.map(lambda rows: rows[: self.count, :: self.rows_per_slot], found)
        sampled = steps.sampled
        logprobs = None
        if sampled.logprob.shape[-1]:
            logprobs = TokenLogprobs(sampled.logprob, sampled.top_ids, sampled.top_logprobs)
        return DecodedBlock(sampled.token, steps.codes, logprobs)


def prefill(model: Griffin, params: Params, buffer: GriffinState, *pack: jax.Array) -> GriffinState:
    """Reads the chunks of a pack into their rows of the buffer; `pack` as for `read`."""
    return read(model, params, buffer, *pack)[0]


def read(
    model: Griffin,
    params: Params,
    buffer: GriffinState,
    tokens: jax.Array,
    lengths: jax.Array,
    buffer_rows: jax.Array,
    fresh: jax.Array,
) -> tuple[GriffinState, jax.Array]:
    """Reads a pack as `prefill`; also all positions' hidden values, after the norm, [r t d].

    Shapes as in `api.PrefillPack`.
    """
    chips = model.chips

    def local_rows(by_chip: bool, leaf: jax.Array) -> jax.Array:
        """The indices of the buffer rows in `leaf`; past its end where a pack row is not in use."""
        wanted = chips.local_slice(buffer_rows) if by_chip else buffer_rows
        return wanted - chips.first_slot(leaf.shape[0], by_chip)

    def rows_of(by_chip: bool, leaf: jax.Array) -> jax.Array:
        """The rows; zeros where a prompt begins, so that nothing is left of the row's last one."""
        row = leaf.at[local_rows(by_chip, leaf)].get(mode="clip")
        begins = beside(chips.local_slice(fresh) if by_chip else fresh, row)
        return jnp.where(begins, jnp.zeros((), row.dtype), row)

    def write(by_chip: bool, leaf: jax.Array, row: jax.Array) -> jax.Array:
        return row_writes.set_rows(leaf, local_rows(by_chip, leaf), row)

    rows = map_rows(rows_of, buffer)
    hidden, rows = apply(model, params, "prefill", tokens, lengths, rows)
    after: GriffinState = map_rows(write, buffer, rows)
    return after, hidden


def decode(
    model: Griffin,
    params: Params,
    state: SlotState,
    steps: jax.Array | None = None,
    *,
    max_steps: int,
    features: SamplingFeatures,
) -> tuple[SlotState, Steps]:
    """A token a step for every active slot; a slot whose sequence ends goes idle in the block.

    Args:
      model, params, state: as everywhere.
      steps: how many, int32 scalar in [1, max_steps]; None for `max_steps`.
      max_steps: rows of the results; those beyond `steps` mean nothing.
      features: what the sampler can do.
    """

    def step(state: SlotState, _: None) -> tuple[SlotState, Steps]:
        token, active = state.slots.token, state.slots.active
        tied = _keep_in_loop(params, token)
        hidden, griffin = apply(model, tied, "decode", token, active, state.model)
        state = state._replace(model=griffin)
        sampled = next_tokens(model, tied, hidden, state, features)
        return advance(state, sampled, features, model.chips)

    return dynamic_scan(step, state, steps, max_steps)


def dynamic_scan(
    step: Callable[[State, None], tuple[State, Made]],
    state: State,
    steps: jax.Array | None,
    max_steps: int,
) -> tuple[State, Made]:
    """`lax.scan(step, state, length=steps)`, where `steps` may be an argument of the program.

    One program runs any number of steps, and a step's results don't depend on the number, so a
    clock may choose it. A fixed number is better where the host must follow the turns of a loop of
    unknown length (a GPU).

    Args:
      step: from a state to the next one and a tree of arrays.
      state: to begin with.
      steps: int32 scalar in [1, max_steps]; None for `max_steps`.
      max_steps: rows of every array that is returned; those beyond `steps` mean nothing.
    """
    if steps is None:
        return lax.scan(step, state, length=max_steps)
    step = jax.jit(step, inline=True)  # traced for its shapes, and not again in the loop
    one = jax.eval_shape(step, state, None)[1]
    rows = jax.tree.map(lambda leaf: jnp.zeros((max_steps, *leaf.shape), leaf.dtype), one)

    def turn(index: jax.Array, carried: tuple[State, Made]) -> tuple[State, Made]:
        def write(rows: jax.Array, row: jax.Array) -> jax.Array:
            return jnp.asarray(lax.dynamic_update_index_in_dim(rows, row, index, 0))

        state, made = step(carried[0], None)
        return state, jax.tree.map(write, carried[1], made)

    done: tuple[State, Made] = lax.fori_loop(0, steps, turn, (state, rows))
    return done


def _keep_in_loop(params: Params, token: jax.Array) -> Params:
    """The parameters, made to depend on each step's token.

    XLA's CPU backend moves operations on parameters alone out of the loop. For bfloat16 these are
    copies of all matrices in another layout: twice the memory, and steps three times as long.
    """

    def tie(params: Params, token: jax.Array) -> Params:
        tied: Params = lax.optimization_barrier((params, token))[0]  # type: ignore[no-untyped-call]
        return tied

    return lax.platform_dependent(params, token, cpu=tie, default=lambda params, _: params)


def advance(
    state: SlotState, sampled: Sampled, features: SamplingFeatures, chips: Chips
) -> tuple[SlotState, Steps]:
    """The state after a step, in which some slots' sequences ended."""
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
    return state._replace(slots=slots), Steps(codes, sampled)


def apply(model: Griffin, params: Params, method: str, *arguments: Any) -> Any:
    """Calls a method of the model."""
    return model.apply({"params": params}, *arguments, method=method)
