"""How much memory there is, how many slots fit in it, and what `auto` means for the engine.

A row's last bits depend on the number of slots, so all machines of a kind must get the same
numbers: they are computed from the model and the memory, and nothing is timed. The first worker of
a job resolves the settings and records them.

The planner imports this module, so nothing imports jax at its top.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from rgpipeline.errors import UserError
from rgpipeline.model.config import GriffinConfig
from rgpipeline.records import ResolvedSettings
from rgpipeline.spec import EngineSpec

Dtype = Literal["float32", "bfloat16"]
Quantize = Literal["none", "int8"]

# Memory for states of shared prompt prefixes, beside the slots.
PREFIX_BYTES = 256 << 20

# Rows of the prefill buffer, or as many as there are slots. They must fill prefill calls: see
# `program_shapes`. A CPU has more than the fewest in bfloat16 only, or with very short chunks; the
# memory for these is in its margin.
MIN_PREFILL_ROWS, MAX_PREFILL_ROWS = 16, 32

# A CPU's matrix multiply is near its best rate from this many rows on.
CPU_SLOTS = 64
# A step on an accelerator reads all weights and every slot's state. When the states weigh four
# times as much as the weights, it makes 80 % of the tokens a second that an unlimited number of
# slots would make, and twice as many slots add 10 %. A small model gets more slots than that,
# because its matrix products need the rows.
_STATES_TO_WEIGHTS, ACCELERATOR_SLOTS = 4, 256
# Share of the memory that is kept for programs and their temporary arrays (0.4 of 16 GB on a v5e);
# on a CPU also for the system, Ray's object store and other processes.
_CPU_KEPT, _ACCELERATOR_KEPT = 0.25, 0.06
# 4-byte numbers that a slot may need for each token of the vocabulary, beside its state: logit
# bias, token counts, logits, truncated logits.
_SAMPLING_ARRAYS = 4

_ROWS = 8  # a product of fewer rows is no faster

# Steps of one call where they are not tuned. On a GPU the host would have to follow every turn of a
# loop whose number of turns is not in the program, and could do nothing else meanwhile.
_STEPS = {"gpu": 16}

_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Memory:
    """What one device has, in bytes."""

    ours: int  # this worker's part
    whole: int  # all there is: nothing fits beyond it
    cpu: bool


@dataclass(frozen=True, slots=True)
class Needs:
    """What a model takes on one device, in bytes."""

    weights: int
    slot: int  # state of one sequence
    vocabulary: int  # tokens in it

    def slots(self, count: int) -> int:
        """Bytes of the weights and `count` slots, and of nothing else."""
        return self.weights + count * self.slot


def device_memory(devices: int = 1) -> Memory:
    """The memory of one of the worker's `devices`.

    On CPUs: the host's memory, divided among workers by the cores they are pinned to.
    """
    import jax  # not at the top: see the module's docstring

    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        limit = int(stats["bytes_limit"])
        return Memory(limit, limit, cpu=False)
    whole = _host_bytes() // devices
    return Memory(int(whole * _cores_share()), whole, cpu=jax.default_backend() == "cpu")


def slots_for(memory: Memory, needs: Needs) -> int:
    """Slots of one device: as many as make it faster, or as many as fit, whichever is less.

    At least one, whether it fits or not: `require_room` checks that. The number of rows in the job
    does not count: otherwise a row's bits would depend on how many other rows there are.
    """
    useful = CPU_SLOTS if memory.cpu else _useful_slots(needs)
    return min(useful, _round_down(_fitting_slots(memory, needs)))


def require_model(memory: Memory, bytes_needed: int) -> None:
    """Raises UserError if a model of `bytes_needed` bytes does not fit in the device's memory."""
    if bytes_needed > memory.whole:
        raise UserError(
            f"the model does not fit: it takes {_gib(bytes_needed)}, and {_has(memory)}. Take a "
            f"machine with more, or fewer bytes: model.quantize: int8, model.dtype: bfloat16"
            + ("" if memory.cpu else ", or its parts on several chips (workers.mesh.model)")
        )


def require_room(memory: Memory, needs: Needs, slots: int, devices: int = 1) -> None:
    """Raises UserError if weights and `slots` do not fit in memory.

    `devices`: those that the slots are divided among, each with this memory.
    """
    require_model(memory, needs.slots(1))
    needed = needs.slots(slots // devices)
    if needed > memory.whole:
        raise UserError(
            f"{slots} slots do not fit: with the weights they take {_gib(needed)}"
            f"{'' if memory.cpu else ' a chip'}, and {_has(memory)}. Keep such machines out of the "
            f"job (workers.accelerator, workers.chips), or give all workers fewer (engine.slots: "
            f"{slots_for(memory, needs) * devices}), with which rows may round differently"
        )


def resolve_settings(
    config: GriffinConfig,
    spec: EngineSpec,
    memory: Memory,
    weights_bytes: int,
    *,
    dtype: Dtype,
    quantize: Quantize,
    platform: str,
    devices: int = 1,
) -> ResolvedSettings:
    """Turns `auto` into numbers.

    Args:
      config: the model.
      spec: what the job asks for.
      memory: of one device.
      weights_bytes: of the weights that are on it.
      dtype, quantize: of the weights as loaded.
      platform: cpu, gpu or tpu.
      devices: those that the slots are divided among.
    """
    slots, chunk, steps = spec.slots, spec.prefill_chunk, spec.steps_per_dispatch
    if slots == "auto":
        slots = slots_for(memory, needs_of(config, weights_bytes, dtype, quantize)) * devices
    return ResolvedSettings(
        dtype=dtype,
        slots=slots,
        prefill_chunk=(128 if platform == "cpu" else 256) if chunk == "auto" else chunk,
        steps_per_dispatch=_STEPS.get(platform) if steps == "auto" else steps,
        quantize=quantize,
    )


def needs_of(config: GriffinConfig, weights_bytes: int, dtype: Dtype, quantize: Quantize) -> Needs:
    """What weights and slots take on one device."""
    return Needs(weights_bytes, state_bytes(config, dtype, quantize), config.vocab_size)


def state_bytes(config: GriffinConfig, dtype: Dtype, quantize: Quantize = "none") -> int:
    """Device memory of one sequence's state, in bytes."""
    width = 4 if dtype == "float32" else 2
    recurrent = config.lru_width * (4 + (config.conv_width - 1) * width)
    key = config.head_dim + 4 if quantize == "int8" else config.head_dim * width
    attention = 2 * config.kv_heads * config.window * key
    kinds = config.block_types
    return kinds.count("recurrent") * recurrent + kinds.count("attention") * attention + 64


def _useful_slots(needs: Needs) -> int:
    return max(ACCELERATOR_SLOTS, _round_down(_STATES_TO_WEIGHTS * needs.weights // needs.slot))


def _fitting_slots(memory: Memory, needs: Needs) -> int:
    kept = _CPU_KEPT if memory.cpu else _ACCELERATOR_KEPT
    free = int(memory.ours * (1 - kept)) - PREFIX_BYTES - needs.weights
    buffer = MIN_PREFILL_ROWS if memory.cpu else MAX_PREFILL_ROWS
    slot = needs.slot + 4 * _SAMPLING_ARRAYS * needs.vocabulary
    return max(1, free // (slot + needs.slot), (free - buffer * needs.slot) // slot)


def _round_down(slots: int) -> int:
    """To a number that fills the tiles of matrix multiplies."""
    tile = 128 if slots >= 128 else _ROWS if slots >= _ROWS else 1
    return slots // tile * tile


def _gib(number: int) -> str:
    return f"{number / 2**30:.2f} GiB"


def _has(memory: Memory) -> str:
    return f"this worker has {_gib(memory.whole)} of memory {'in all' if memory.cpu else 'a chip'}"


def _host_bytes() -> int:
    """Memory of the host, or of the container if its limit is lower."""
    limits = [psutil.virtual_memory().total]
    try:
        own = _CGROUPS / Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].strip()
    except OSError:  # not Linux
        return limits[0]
    for folder in (own, *own.parents):
        limit = folder / "memory.max"
        if limit.is_file() and (text := limit.read_text().strip()).isdigit():
            limits.append(int(text))
    return min(limits)


def _cores_share() -> float:
    """This process's share of the cores: workers on one host are pinned to different cores."""
    if not hasattr(os, "sched_getaffinity"):
        return 1.0
    # Process 1 of a container may use the container's cores; `_host_bytes` is for all of them.
    cores = len(os.sched_getaffinity(1))
    return min(1.0, len(os.sched_getaffinity(0)) / cores)
