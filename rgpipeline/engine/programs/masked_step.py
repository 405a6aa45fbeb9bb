"""A decode step in two programs: the host makes the masks for the second during the first.

The same arithmetic as a step of `forward.decode`, cut between the model and the head: a row without
a grammar gets the same bits from either.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.decoded import PendingBlock
from rgpipeline.engine.programs.forward import DeviceBlock, Steps, advance, apply
from rgpipeline.engine.sampling.masks import as_bytes
from rgpipeline.engine.sampling.next_token import next_tokens
from rgpipeline.engine.slot_fields import SamplingFeatures
from rgpipeline.engine.slot_state import SlotState
from rgpipeline.model.griffin_state import GriffinState
from rgpipeline.model.layers.griffin import Griffin

Params = Any


@dataclass(frozen=True, slots=True)
class DeviceStep:
    """`decoded.PendingStep` of a GriffinEngine."""

    program: Callable[[SamplingFeatures], Callable[..., Any]]  # makes `draw`
    params: Params
    hidden: jax.Array
    rows_per_slot: int  # the first row of each is the slot's

    def draw(
        self, state: SlotState, features: SamplingFeatures, masks: NDArray[np.int32]
    ) -> tuple[SlotState, PendingBlock]:
        rows = np.repeat(masks, self.rows_per_slot, axis=0)  # a copy: the device reads it later
        state, steps = self.program(features)(self.params, state, self.hidden, as_bytes(rows))
        return state, DeviceBlock(steps, 1, self.rows_per_slot)


def forward(
    model: Griffin, params: Params, states: GriffinState, token: jax.Array, active: jax.Array
) -> tuple[GriffinState, jax.Array]:
    """The model reads the next input of each active slot.

    Returns:
      The states, and the last block's output, normed, float32 [s d].
    """
    hidden, states = apply(model, params, "decode", token, active, states)
    return states, hidden


def draw(
    model: Griffin,
    params: Params,
    state: SlotState,
    hidden: jax.Array,
    masks: jax.Array,
    *,
    features: SamplingFeatures,
) -> tuple[SlotState, Steps]:
    """A token for every active slot, from what `forward` returned.

    Args:
      model, params, state: as everywhere.
      hidden: float32 [s d].
      masks: uint8 [s b], see `sampling.masks`.
      features: what the sampler can do.
    """
    sampled = next_tokens(model, params, hidden, state, features, masks)
    state, steps = advance(state, sampled, features, model.chips)
    return state, jax.tree.map(lambda leaf: leaf[None], steps)
