"""Everything the device holds for the slots: one immutable pytree, donated from call to call."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rgpipeline.engine.api import MAX_STOP_IDS
from rgpipeline.engine.features import SamplingFeatures
from rgpipeline.engine.sampling import SamplingState, empty_sampling_state
from rgpipeline.model.config import GriffinConfig
from rgpipeline.model.griffin_state import GriffinState, init_state


class SlotState(NamedTuple):
    """Axis 0 of every array is the slot."""

    model: GriffinState
    token: jax.Array  # int32 [s], the next input
    active: jax.Array  # bool [s], decoding
    remaining: jax.Array  # int32 [s], tokens still to sample; negative is without limit
    banned_for: jax.Array  # int32 [s], steps in which stop ids can't be drawn
    stop_ids: jax.Array  # int32 [s, MAX_STOP_IDS], -1 is none
    sampling: SamplingState


def empty_slots(
    config: GriffinConfig,
    slots: int,
    dtype: jnp.dtype,
    features: SamplingFeatures,
    quantized: bool = False,
) -> SlotState:
    """All slots idle; `quantized` as in `init_state`."""
    # Separate arrays, although all are zero: a donated buffer may be given only once.
    token, remaining, banned_for = (jnp.zeros((slots,), jnp.int32) for _ in range(3))
    return SlotState(
        model=init_state(config, slots, dtype, quantized),
        token=token,
        active=jnp.zeros((slots,), jnp.bool_),
        remaining=remaining,
        banned_for=banned_for,
        stop_ids=jnp.full((slots, MAX_STOP_IDS), -1, jnp.int32),
        sampling=empty_sampling_state(slots, config.vocab_size, features),
    )
