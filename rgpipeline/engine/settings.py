"""What `auto` means: settled once for a job from the model and the device, then recorded."""

from typing import Literal

import jax

from rgpipeline.model.chips import ALONE, Chips
from rgpipeline.model.config import GriffinConfig
from rgpipeline.model.sharding import check_slots
from rgpipeline.records import EngineSettings
from rgpipeline.spec import EngineSpec

# A CPU's matrix multiply is near its best rate from about 64 rows on; an accelerator reads all
# weights for every step, so the more slots share that reading the better.
_CPU_SLOTS, _ACCELERATOR_SLOTS = 64, 256
# Share of free memory that states may take; the rest is for temporaries and everybody else.
_STATE_SHARE = 0.5


def settle(
    config: GriffinConfig,
    spec: EngineSpec,
    *,
    dtype: Literal["float32", "bfloat16"],
    quantize: Literal["none", "int8"],
    free_bytes: int,
    platform: str | None = None,
    chips: Chips = ALONE,
) -> EngineSettings:
    """Turns `auto` into numbers.

    Args:
      config: the model.
      spec: what the job asks for.
      dtype, quantize: of the weights as loaded.
      free_bytes: memory of one device left beside the weights.
      platform: cpu, gpu or tpu; default: what jax runs on.
      chips: those that the slots are divided among.

    Raises:
      UserError: the slots asked for can't be divided so.
    """
    cpu = (platform or jax.default_backend()) == "cpu"
    fitting = max(1, int(free_bytes * _STATE_SHARE) // state_bytes(config, dtype, quantize))
    each = min(_CPU_SLOTS if cpu else _ACCELERATOR_SLOTS, _power_of_two(fitting))
    slots = each * chips.count if spec.slots == "auto" else spec.slots
    check_slots(slots, chips, "engine.slots")
    return EngineSettings(
        dtype=dtype,
        slots=slots,
        prefill_chunk=(128 if cpu else 256) if spec.prefill_chunk == "auto" else spec.prefill_chunk,
        steps_per_dispatch=(4 if cpu else 16)
        if spec.steps_per_dispatch == "auto"
        else spec.steps_per_dispatch,
        quantize=quantize,
    )


def pack_tokens(
    settings: EngineSettings, *, platform: str | None = None, chips: Chips = ALONE
) -> int:
    """Tokens in one prefill call: enough for the matrix multiplies to be at their best rate."""
    cpu = (platform or jax.default_backend()) == "cpu"
    return max(settings.prefill_chunk, 128 if cpu else 1024) * chips.data


def state_bytes(
    config: GriffinConfig,
    dtype: Literal["float32", "bfloat16"],
    quantize: Literal["none", "int8"] = "none",
) -> int:
    """Device memory of one sequence's state, in bytes."""
    width = 4 if dtype == "float32" else 2
    recurrent = config.lru_width * (4 + (config.conv_width - 1) * width)
    key = config.head_dim + 4 if quantize == "int8" else config.head_dim * width
    attention = 2 * config.window * key
    kinds = config.block_types
    return kinds.count("recurrent") * recurrent + kinds.count("attention") * attention + 64


def _power_of_two(number: int) -> int:
    return 1 << (number.bit_length() - 1)
