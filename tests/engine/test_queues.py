"""What goes into a prefill call, and when."""

import numpy as np
import pytest

from rgpipeline.engine.prefill.queues import LONG_CHUNKS, LONG_SHARE, MAX_WAIT_STEPS, PrefillQueue

SHAPES = [(1, 128), (2, 64), (4, 32), (8, 16)]
ROWS = 16


def queue_of(*lengths: int) -> PrefillQueue:
    queue = PrefillQueue(SHAPES, ROWS)
    for row, length in enumerate(lengths):
        queue.add(row, np.full(length, row + 1, np.int32), 0, fresh=True)
    return queue


def chunks(length: int) -> list[tuple[int, int]]:
    """The size of each call for one prompt, and how many of its tokens that call carries."""
    queue, calls = queue_of(length), list[tuple[int, int]]()
    while called := queue.next_pack(flush=True):
        calls.append((called[0].tokens.shape[1], int(called[0].lengths.sum())))
    return calls


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (300, [(128, 128), (128, 128), (32, 32), (16, 12)]),
        (100, [(64, 64), (32, 32), (16, 4)]),
        (113, [(128, 113)]),  # all of the shorter ones together would be as long
        (16, [(16, 16)]),
        (0, [(16, 0)]),  # nothing to read, but the row must be made fresh
    ],
)
def test_what_is_left_of_a_prompt_is_cut_into_ever_shorter_chunks(length, expected) -> None:
    assert chunks(length) == expected


def test_a_pack_that_is_not_full_waits_for_company_unless_a_slot_is_empty() -> None:
    queue = queue_of(64)
    assert queue.next_pack(flush=False) is None
    queue.add(7, np.full(64, 9, np.int32), 0, fresh=True)
    called = queue.next_pack(flush=False)
    assert called is not None
    assert called[1] == [(0, 64), (7, 64)]
    assert queue_of(64).next_pack(flush=True) is not None


def test_no_prompt_waits_for_ever() -> None:
    queue = queue_of(64)
    queue.record_steps(MAX_WAIT_STEPS - 1, 64)
    assert queue.next_pack(flush=False) is None
    queue.record_steps(1, 64)
    assert queue.next_pack(flush=False) is not None


def test_the_fullest_pack_goes_first() -> None:
    called = queue_of(16, 16, 64).next_pack(flush=True)
    assert called is not None
    assert called[0].tokens.shape == (2, 64)


LONG = LONG_CHUNKS * 128 * 3


def served(queue: PrefillQueue, calls: int, **how: bool) -> list[set[int]]:
    """The rows that each of the next calls reads in."""
    made = [queue.next_pack(flush=True, **how) for _ in range(calls)]
    return [{row for row, _ in call[1]} for call in made if call is not None]


@pytest.mark.parametrize("short", [7, 100, 300, 1000])
def test_calls_alternate_between_a_long_prompt_and_short_ones(short: int) -> None:
    queue, alone = queue_of(LONG, short), len(chunks(short))
    assert served(queue, 2 * alone).count({1}) == alone


def test_a_short_prompt_that_comes_late_is_read_at_once() -> None:
    queue = queue_of(LONG)
    served(queue, 5)
    queue.add(9, np.full(16, 1, np.int32), 0, fresh=True)
    assert {9} in served(queue, 2)


def test_of_several_long_prompts_none_waits_for_all_of_another() -> None:
    queue = queue_of(100 * LONG, LONG)
    first = served(queue, 2 * len(chunks(LONG)) + 2)
    assert first.count({1}) == len(chunks(LONG))
    assert {0} in first[:2]


def test_short_prompts_do_not_hold_up_a_long_one() -> None:
    queue = queue_of(LONG)
    for _ in range(20):  # ever new ones
        queue.add(1, np.full(128, 1, np.int32), 0, fresh=True)
        assert {0} in served(queue, 2)
        queue.remove(1)


def test_while_others_are_decoded_a_long_prompt_gets_a_share_of_the_device() -> None:
    queue = queue_of(LONG)
    queue.record_steps(4, 64)
    calls = LONG_SHARE * 4 * 64 // 128
    assert len(served(queue, 3 * calls, decoding=True)) == calls
    queue.record_steps(1, 1)
    assert len(served(queue, 3, decoding=True)) == 1
    assert len(served(queue, 3, decoding=False)) == 3
