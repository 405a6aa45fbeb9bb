"""What goes into a prefill call, and when."""

import numpy as np
import pytest

from rgpipeline.engine.prefill_queue import PATIENCE, PrefillQueue

SHAPES = [(1, 128), (2, 64), (4, 32), (8, 16)]
PLACES = 16


def queue_of(*lengths: int) -> PrefillQueue:
    queue = PrefillQueue(SHAPES, PLACES)
    for place, length in enumerate(lengths):
        queue.add(place, np.full(length, place + 1, np.int32), 0, fresh=True)
    return queue


def chunks(length: int) -> list[tuple[int, int]]:
    """The size of each call for one prompt, and how many of its tokens that call carries."""
    queue, calls = queue_of(length), list[tuple[int, int]]()
    while called := queue.next_pack(hurry=True):
        calls.append((called[0].tokens.shape[1], int(called[0].lengths.sum())))
    return calls


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (300, [(128, 128), (128, 128), (32, 32), (16, 12)]),
        (100, [(64, 64), (32, 32), (16, 4)]),
        (113, [(128, 113)]),  # all of the shorter ones together would be as long
        (16, [(16, 16)]),
        (0, [(16, 0)]),  # nothing to read, but the place must be made fresh
    ],
)
def test_what_is_left_of_a_prompt_is_cut_into_ever_shorter_chunks(length, expected) -> None:
    assert chunks(length) == expected


def test_a_pack_that_is_not_full_waits_for_company_unless_a_slot_is_empty() -> None:
    queue = queue_of(64)
    assert queue.next_pack(hurry=False) is None
    queue.add(7, np.full(64, 9, np.int32), 0, fresh=True)
    called = queue.next_pack(hurry=False)
    assert called is not None
    assert called[1] == [(0, 64), (7, 64)]
    assert queue_of(64).next_pack(hurry=True) is not None


def test_no_prompt_waits_for_ever() -> None:
    queue = queue_of(64)
    queue.wait(PATIENCE - 1)
    assert queue.next_pack(hurry=False) is None
    queue.wait(1)
    assert queue.next_pack(hurry=False) is not None


def test_the_fullest_pack_goes_first() -> None:
    called = queue_of(16, 16, 64).next_pack(hurry=True)
    assert called is not None
    assert called[0].tokens.shape == (2, 64)
