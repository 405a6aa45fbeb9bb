"""What `auto` means: settled from the model and the device, once for a job, then recorded."""

from typing import Literal

import jax

from rgpipeline.engine.auto import Memory, Needs, slots_for
from rgpipeline.model.collectives import ALONE, Chips
from rgpipeline.model.config import GriffinConfig
from rgpipeline.model.sharding import check_slots
from rgpipeline.records import EngineSettings
from rgpipeline.spec import EngineSpec

# Where each worker does not find its own: a GPU's host waits for every turn of a loop whose number
# of turns is not in the program, and could do nothing else meanwhile.
_STEPS = {"gpu": 16}


def settle(
    config: GriffinConfig,
    spec: EngineSpec,
    memory: Memory,
    weights_bytes: int,
    *,
    dtype: Literal["float32", "bfloat16"],
    quantize: Literal["none", "int8"],
    platform: str | None = None,
    chips: Chips = ALONE,
) -> EngineSettings:
    """Turns `auto` into numbers.

    Args:
      config: the model.
      spec: what the job asks for.
      memory: of one device.
      weights_bytes: of the weights that are on it.
      dtype, quantize: of the weights as loaded.
      platform: cpu, gpu or tpu; default: what jax runs on.
      chips: those that the slots are divided among.

    Raises:
      UserError: the slots asked for can't be divided so.
    """
    platform = platform or jax.default_backend()
    slots, chunk, steps = spec.slots, spec.prefill_chunk, spec.steps_per_dispatch
    if slots == "auto":
        needs = needs_of(config, weights_bytes, dtype, quantize)
        slots = slots_for(memory, needs) * chips.count
    check_slots(slots, chips, "engine.slots")
    return EngineSettings(
        dtype=dtype,
        slots=slots,
        prefill_chunk=(128 if platform == "cpu" else 256) if chunk == "auto" else chunk,
        steps_per_dispatch=_STEPS.get(platform) if steps == "auto" else steps,
        quantize=quantize,
    )


def rows_per_slot(settings: EngineSettings, platform: str | None, chips: Chips = ALONE) -> int:
    """Rows of the decode program for each slot: one, or two where the second one is left idle.

    XLA's CPU backend keeps a second copy of all matrices for products of one bfloat16 row, and
    takes more than twice as long for them as for two rows. int8 and float32 do well with one row.
    """
    one_row = settings.slots // chips.data == 1
    plain_bfloat16 = settings.dtype == "bfloat16" and settings.quantize == "none"
    return 2 if platform == "cpu" and one_row and plain_bfloat16 else 1


def needs_of(
    config: GriffinConfig,
    weights_bytes: int,
    dtype: Literal["float32", "bfloat16"],
    quantize: Literal["none", "int8"],
) -> Needs:
    """What weights and slots take on one device."""
    return Needs(weights_bytes, state_bytes(config, dtype, quantize), config.vocab_size)


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
