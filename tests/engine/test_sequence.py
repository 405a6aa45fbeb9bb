"""A sequence's way through the engine, by its status."""

import pytest

from rgpipeline.engine.prefill.admission import Admission
from rgpipeline.engine.sequence import IndexPool, Sequence, SequenceStatus
from tests.engine.test_loop import request
from tests.fake_engine import FakeBuffer, FakeEngine, FakeState

PROMPT = [1, 2, 3, 4, 5, 6, 7, 8, 9]


class Admitting:
    """An admission over the fake engine, and the sequences in its buffer."""

    def __init__(self, slots: int, rows: int) -> None:
        engine = FakeEngine(slots=slots)
        engine.prefill_rows = rows
        self.state = engine.init(None)
        self.slots = IndexPool(slots)
        self.admission: Admission[FakeState, FakeBuffer] = Admission(engine, self.slots, 4)

    def insert(self) -> list[Sequence]:
        self.state, inserted = self.admission.insert(self.state)
        return inserted

    def statuses(self) -> dict[object, str]:
        return {one.request.key: one.status.name for one in self.admission._rows}


def test_two_prompts_with_a_prefix_in_common_go_through_the_buffer_into_slots():
    admitting = Admitting(slots=2, rows=2)
    for key in "abc":
        admitting.admission.add(request(key, PROMPT, max_tokens=3))

    assert admitting.insert() == []
    assert admitting.statuses() == {"a": "PREFILLING", "b": "BLOCKED_ON_PREFIX"}
    assert admitting.admission.waiting == 3

    seen, decoding = set(), []
    while admitting.admission.prefill():
        seen |= set(admitting.statuses().items())
        decoding += admitting.insert()

    assert {("a", "READY"), ("b", "BLOCKED_ON_PREFIX")} <= seen
    assert [(one.request.key, one.slot) for one in decoding] == [("a", 0), ("b", 1)]
    assert {one.status for one in decoding} == {SequenceStatus.DECODING}
    assert admitting.statuses() == {"c": "READY"}  # no slot is free


@pytest.mark.parametrize("key", ["a", "b", "c"])
def test_one_that_is_dropped_before_it_has_a_slot_leaves_nothing_behind(key):
    admitting = Admitting(slots=1, rows=2)
    for each in "abc":
        admitting.admission.add(request(each, PROMPT, max_tokens=3))
    admitting.insert()
    before = {one.request.key: one for one in admitting.admission._rows}

    admitting.admission.drop(key)

    assert admitting.admission.waiting == 2
    assert [one.status.name for one in before.values()].count("FINISHED") == (key in before)
    inserted = admitting.insert()
    while admitting.admission.prefill():
        inserted += admitting.insert()
    assert inserted[0].request.key != key


def test_a_sequence_is_fully_dispatched_when_its_limit_is_reached():
    limited, endless = (Sequence(request("a", [1], max_tokens=limit), []) for limit in (5, None))

    assert [one.record_dispatch(3) for one in (limited, endless)] == [False, False]
    assert [one.record_dispatch(3) for one in (limited, endless)] == [True, False]
    assert limited.status is SequenceStatus.FULLY_DISPATCHED


def test_an_index_goes_back_to_its_part_and_only_from_the_sequence_that_has_it():
    pool, (one, other) = IndexPool(4, parts=2), (Sequence(request(k, [1]), []) for k in "ab")
    index = pool.take(one, 1)
    assert (pool.part_of(index), pool.free_in(0), pool.free_in(1)) == (1, 2, 1)

    pool.release(index, other)
    assert list(pool) == [one]
    pool.release(index, one)
    assert (list(pool), pool.free) == ([], 4)
