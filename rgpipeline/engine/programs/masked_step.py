"""A decode step in two programs: the host makes the masks for the second during the first.

The same arithmetic as a step of `forward.decode`, cut in two: a row without a grammar gets the same
bits from either. On a CPU the head belongs to the first program, because its product takes most of
a small model's step, and the host has that long for the masks. Elsewhere the head may draw itself
(`model.kernels.head`), so it belongs to the second.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.decoded import PendingBlock
from rgpipeline.engine.programs.forward import DeviceBlock, Steps, advance, apply
from rgpipeline.engine.sampling.masks import as_bytes
from rgpipeline.engine.sampling.next_token import logits_of, next_tokens, sampled_of
from rgpipeline.engine.slot_fields import SamplingFeatures
from rgpipeline.engine.slot_state import SlotState
from rgpipeline.model.collectives import Chips
from rgpipeline.model.griffin_state import GriffinState
from rgpipeline.model.layers.griffin import Griffin
from rgpipeline.model.platforms import Kernels

Params = Any


@dataclass(frozen=True, slots=True)
class DeviceStep:
    """`decoded.PendingStep` of a GriffinEngine."""

    program: Callable[[SamplingFeatures], Callable[..., Any]]  # makes `draw`
    params: Params
    made: jax.Array  # by `forward`
    rows_per_slot: int  # the first row of each is the slot's

    def draw(
        self, state: SlotState, features: SamplingFeatures, masks: NDArray[np.int32]
    ) -> tuple[SlotState, PendingBlock]:
        rows = masks if self.rows_per_slot == 1 else np.repeat(masks, self.rows_per_slot, axis=0)
        state, steps = self.program(features)(self.params, state, self.made, as_bytes(rows))
        return state, DeviceBlock(steps, 1, self.rows_per_slot)


def head_goes_first(platform: str, kernels: Kernels, chips: Chips) -> bool:
    """Whether the head belongs to `forward`; then `forward` makes logits for `draw`."""
    return platform == "cpu" and kernels == "plain" and chips.model == 1


def forward(
    model: Griffin,
    params: Params,
    states: GriffinState,
    token: jax.Array,
    active: jax.Array,
    *,
    with_head: bool,
) -> tuple[GriffinState, jax.Array]:
    """The model reads the next input of each active slot.

    Returns:
      The states, and the last block's output, normed, float32 [s d]; `with_head`, the logits,
      float32 [v s].
    """
    hidden, states = apply(model, params, "decode", token, active, states)
    return states, logits_of(model, params, hidden, jnp.any(active)).T if with_head else hidden


def draw(
    model: Griffin,
    params: Params,
    state: SlotState,
    made: jax.Array,
    masks: jax.Array,
    *,
    features: SamplingFeatures,
    with_head: bool,
) -> tuple[SlotState, Steps]:
    """A token for every active slot, from what `forward` returned.

    Args:
      model, params, state: as everywhere.
      made: what `forward` returned.
      masks: uint8 [s b], see `sampling.masks`.
      features: what the sampler can do.
      with_head: as for `forward`.
    """
    if with_head:
        sampled = sampled_of(model.chips, made.T, None, state, features, masks)
    else:
        sampled = next_tokens(model, params, made, state, features, masks)
    state, steps = advance(state, sampled, features, model.chips)
    return state, jax.tree.map(lambda leaf: leaf[None], steps)
