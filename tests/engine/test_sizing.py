"""Slots by memory: the same numbers of bytes come to the same number of slots."""

import pytest

from rgpipeline.engine.sizing import Memory, Needs, require_room, slots_for
from rgpipeline.errors import UserError

GIB = 2**30
V5E = Memory(int(15.75 * GIB), int(15.75 * GIB), cpu=False)
H100 = Memory(60 * GIB, 60 * GIB, cpu=False)
LAPTOP = Memory(16 * GIB, 16 * GIB, cpu=True)

# Bytes as `rgpipeline fit` tells them: 2B in bfloat16, in int8 and in float32; 183 M in float32.
TWO = Needs(5_370_000_000, 17_200_000, 256_000)
TWO_INT8 = Needs(2_900_000_000, 9_000_000, 256_000)
TWO_FLOAT32 = Needs(10_730_000_000, 34_400_000, 256_000)
SMALL = Needs(735_000_000, 8_600_000, 32_000)


@pytest.mark.parametrize(
    ("memory", "needs", "slots"),
    [
        (V5E, TWO, 384),
        (V5E, TWO_INT8, 896),
        (H100, TWO, 1152),  # more would fit; states weigh four times as much as weights
        (H100, SMALL, 256),  # the same, but for a model whose weights are soon read
        (LAPTOP, SMALL, 64),
        (LAPTOP, TWO_FLOAT32, 32),
        (LAPTOP, Needs(15 * GIB, GIB // 2, 256_000), 1),
    ],
)
def test_as_many_slots_as_pay_and_fit(memory: Memory, needs: Needs, slots: int) -> None:
    assert slots_for(memory, needs) == slots
    require_room(memory, needs, slots)


@pytest.mark.parametrize("needs", [TWO, TWO_INT8])
def test_a_sampler_that_keeps_something_for_every_token_fits_too(needs: Needs) -> None:
    slots = slots_for(V5E, needs)
    bias_counts_and_logits = 3 * 4 * needs.vocabulary * slots
    assert needs.slots(slots) + bias_counts_and_logits < 0.95 * V5E.whole


def test_a_cpu_worker_counts_on_its_own_part_of_the_host() -> None:
    part = Memory(16 * GIB, 64 * GIB, cpu=True)
    assert slots_for(part, TWO_FLOAT32) == slots_for(LAPTOP, TWO_FLOAT32)
    require_room(part, Needs(30 * GIB, GIB, 256_000), 8)  # not in its part, but it can be had


def test_less_memory_than_the_slots_agreed_on_need() -> None:
    small = Memory(8 * GIB, 8 * GIB, cpu=False)
    with pytest.raises(UserError) as caught:
        require_room(small, TWO, 4 * 384, devices=4)
    assert str(caught.value) == (
        "1536 slots do not fit: with the weights they take 11.15 GiB a chip, and this worker has "
        "8.00 GiB of memory a chip. Keep such machines out of the job (workers.accelerator, "
        "workers.chips), or give all workers fewer (engine.slots: 352), with which rows may round "
        "differently"
    )


def test_not_even_one_slot_fits() -> None:
    with pytest.raises(UserError) as caught:
        require_room(Memory(10 * GIB, 10 * GIB, cpu=True), TWO_FLOAT32, 1)
    assert str(caught.value) == (
        "the model does not fit: it takes 10.03 GiB, and this worker has 10.00 GiB of memory in "
        "all. Take a machine with more, or fewer bytes: model.quantize: int8, model.dtype: bfloat16"
    )
