"""How many slots a device is given: plain numbers in, a plain number out, and nothing is measured.

A row's last bits depend on the number of slots, so all machines of a kind must come to the same.
"""

from dataclasses import dataclass

from rgpipeline.errors import UserError

# Memory for states of shared prompt prefixes, beside the slots.
PREFIX_BYTES = 256 << 20

# States of prompts that are read ahead of free slots: these, or as many as there are slots.
# Enough to fill prefill calls from, which have room for 8 of the shortest chunks on a CPU.
CPU_STAGED, ACCELERATOR_STAGED = 16, 32

# A CPU's matrix multiply is near its best rate from so many rows on.
CPU_SLOTS = 64
# An accelerator's step reads all weights and every slot's state. With states that weigh four times
# as much as the weights it makes four fifths of the tokens a second that endlessly many slots would
# make, and twice as many slots add a tenth. A small model gets more than that: its products want
# the rows.
_STATES_TO_WEIGHTS, ACCELERATOR_SLOTS = 4, 256
# Share of the memory for programs and what they need while they run (0.4 of 16 GB on a v5e); on a
# CPU for the system, Ray's store of objects and everybody else, too.
_CPU_KEPT, _ACCELERATOR_KEPT = 0.25, 0.06
# Beside its state, a slot may need so many numbers of 4 bytes for each token of the vocabulary,
# once a row asks for it: logit bias, counts for penalties, logits, and those that are cut.
_SAMPLING = 4

_ROWS = 8  # that a product does no faster without


@dataclass(frozen=True, slots=True)
class Memory:
    """What one device has, in bytes."""

    ours: int  # this worker's part
    whole: int  # all there is: beyond it nothing goes
    cpu: bool


@dataclass(frozen=True, slots=True)
class Needs:
    """What a model takes on one device, in bytes."""

    weights: int
    slot: int  # state of one sequence
    vocabulary: int  # tokens in it

    def slots(self, count: int) -> int:
        """Of weights and `count` slots, with nothing beside them."""
        return self.weights + count * self.slot


def slots_for(memory: Memory, needs: Needs) -> int:
    """Slots of one device: as many as pay, or as fit with all that a job may ask of them.

    One slot at least, whether it fits or not: see `require_room`. That a job has few rows makes no
    slots fewer: a row would depend on how many others there are.
    """
    fitting = _rounded(_fitting(memory, needs))
    paying = CPU_SLOTS if memory.cpu else _paying(needs)
    return min(paying, fitting)


def require_model(memory: Memory, bytes_needed: int) -> None:
    """Raises UserError if a model of so many bytes can't be in the device's memory at all."""
    if bytes_needed > memory.whole:
        raise UserError(
            f"the model does not fit: it takes {_gib(bytes_needed)}, and {_has(memory)}. Take a "
            f"machine with more, or fewer bytes: model.quantize: int8, model.dtype: bfloat16"
            + ("" if memory.cpu else ", or its parts on several chips (workers.mesh.model)")
        )


def require_room(memory: Memory, needs: Needs, slots: int, devices: int = 1) -> None:
    """Raises UserError if weights and `slots` can't be in memory at all.

    `devices`: those that the slots are divided among, each of this memory.
    """
    require_model(memory, needs.slots(1))
    held = needs.slots(slots // devices)
    if held > memory.whole:
        raise UserError(
            f"{slots} slots do not fit: with the weights they take {_gib(held)}"
            f"{'' if memory.cpu else ' a chip'}, and {_has(memory)}. Keep such machines out of the "
            f"job (workers.accelerator, workers.chips), or give all workers fewer (engine.slots: "
            f"{slots_for(memory, needs) * devices}), with which rows may round differently"
        )


def _paying(needs: Needs) -> int:
    return max(ACCELERATOR_SLOTS, _rounded(_STATES_TO_WEIGHTS * needs.weights // needs.slot))


def _fitting(memory: Memory, needs: Needs) -> int:
    kept = _CPU_KEPT if memory.cpu else _ACCELERATOR_KEPT
    free = int(memory.ours * (1 - kept)) - PREFIX_BYTES - needs.weights
    staged = CPU_STAGED if memory.cpu else ACCELERATOR_STAGED
    slot = needs.slot + 4 * _SAMPLING * needs.vocabulary
    return max(1, free // (slot + needs.slot), (free - staged * needs.slot) // slot)


def _rounded(slots: int) -> int:
    """Down to what tiles of matrix multiplies are full with."""
    tile = 128 if slots >= 128 else _ROWS if slots >= _ROWS else 1
    return slots // tile * tile


def _gib(number: int) -> str:
    return f"{number / 2**30:.2f} GiB"


def _has(memory: Memory) -> str:
    return f"this worker has {_gib(memory.whole)} of memory {'in all' if memory.cpu else 'a chip'}"
