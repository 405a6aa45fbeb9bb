"""Buffer rows and packs in parts: each part's prompts go through the chip that has their rows."""

import numpy as np

from rgpipeline.engine.loop import Loop
from rgpipeline.engine.prefill.queues import PrefillQueue
from tests.engine.test_loop import finish, request, texts
from tests.fake_engine import FakeEngine, by_hand

PLACES, PARTS = 8, 4


def queue_of(*rows: int) -> PrefillQueue:
    queue = PrefillQueue([(8, 16)], PLACES, PARTS)
    for row in rows:
        queue.add(row, np.full(5, row + 1, np.int32), 0, fresh=True)
    return queue


def test_a_prompt_goes_into_a_row_of_its_places_part() -> None:
    called = queue_of(7, 2, 3, 0).next_pack(flush=True)

    assert called is not None
    assert called[0].buffer_rows.tolist() == [0, 8, 2, 3, 8, 8, 7, 8]
    assert called[0].tokens[:, 0].tolist() == [1, 0, 3, 4, 0, 0, 8, 0]


def test_what_a_part_has_no_row_for_waits_for_the_next_pack() -> None:
    queue = PrefillQueue([(4, 16)], PLACES, PARTS)
    for row in (0, 1, 6):
        queue.add(row, np.full(5, 9, np.int32), 0, fresh=True)
    first, second = queue.next_pack(flush=True), queue.next_pack(flush=True)

    assert first is not None
    assert second is not None
    assert [row for row, _ in first[1]] == [0, 6]
    assert [row for row, _ in second[1]] == [1]


def test_a_pack_is_full_when_every_part_has_what_it_can_take() -> None:
    queue = PrefillQueue([(4, 16)], PLACES, PARTS)
    for row in (0, 1, 2, 4):
        queue.add(row, np.full(5, 9, np.int32), 0, fresh=True)
    assert queue.next_pack(flush=False) is None

    queue.add(6, np.full(5, 9, np.int32), 0, fresh=True)
    assert queue.next_pack(flush=False) is not None


def loop_of_parts() -> tuple[FakeEngine, Loop]:
    engine = FakeEngine(slots=PLACES)
    engine.parts, engine.pack_shapes = PARTS, [(4, 4), (8, 2)]
    return engine, Loop(engine, prefix_states=2)


def test_sequences_spread_over_the_parts() -> None:
    engine, loop = loop_of_parts()
    loop.submit(request(i, [1, 2, 3], max_tokens=9) for i in range(4))
    loop.step()

    assert sorted(slot * PARTS // PLACES for slot in engine.inserted) == [0, 1, 2, 3]


def test_each_is_seated_where_it_was_read() -> None:
    """No state goes from chip to chip: the fake engine refuses to insert into another part."""
    engine, loop = loop_of_parts()
    work = [([1, 2, 3 + i % 4, 1 + i % 7], 5 + i % 11) for i in range(40)]
    loop.submit(request(i, p, max_tokens=n) for i, (p, n) in enumerate(work))

    assert texts(finish(loop)) == {i: by_hand(p, n) for i, (p, n) in enumerate(work)}
    assert len(engine.inserted) == len(work)
