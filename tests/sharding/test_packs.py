"""Places and packs in parts: each part's prompts go through the chip that has their places."""

import numpy as np

from rgpipeline.engine.prefill_queue import PrefillQueue
from rgpipeline.engine.slots import Slots
from rgpipeline.records import Request
from rgpipeline.spec import Sampling

PLACES, PARTS = 8, 4


def queue_of(*places: int) -> PrefillQueue:
    queue = PrefillQueue([(8, 16)], PLACES, PARTS)
    for place in places:
        queue.add(place, np.full(5, place + 1, np.int32), 0, fresh=True)
    return queue


def test_a_prompt_goes_into_a_row_of_its_places_part() -> None:
    called = queue_of(7, 2, 3, 0).next_pack(hurry=True)

    assert called is not None
    assert called[0].places.tolist() == [0, 8, 2, 3, 8, 8, 7, 8]
    assert called[0].tokens[:, 0].tolist() == [1, 0, 3, 4, 0, 0, 8, 0]


def test_what_a_part_has_no_row_for_waits_for_the_next_pack() -> None:
    queue = PrefillQueue([(4, 16)], PLACES, PARTS)
    for place in (0, 1, 6):
        queue.add(place, np.full(5, 9, np.int32), 0, fresh=True)
    first, second = queue.next_pack(hurry=True), queue.next_pack(hurry=True)

    assert first is not None
    assert second is not None
    assert [place for place, _ in first[1]] == [0, 6]
    assert [place for place, _ in second[1]] == [1]


def test_a_pack_is_full_when_every_part_has_what_it_can_take() -> None:
    queue = PrefillQueue([(4, 16)], PLACES, PARTS)
    for place in (0, 1, 2, 4):
        queue.add(place, np.full(5, 9, np.int32), 0, fresh=True)
    assert queue.next_pack(hurry=False) is None

    queue.add(6, np.full(5, 9, np.int32), 0, fresh=True)
    assert queue.next_pack(hurry=False) is not None


def test_tenants_spread_over_the_parts() -> None:
    slots = Slots(PLACES, PARTS)
    tokens = np.asarray([2], np.int32)

    taken = [slots.admit(Request(i, tokens, Sampling(), (0, 0))).slot for i in range(4)]

    assert sorted(slot * PARTS // PLACES for slot in taken) == [0, 1, 2, 3]
