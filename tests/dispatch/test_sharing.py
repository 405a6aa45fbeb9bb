"""Slots never drain while there is work, and nobody idles at the tail."""

from rgpipeline.dispatch.driver_messages import StartWorker
from rgpipeline.records import AssignmentKey
from tests.dispatch.driver_harness import DriverHarness, shards


def test_as_many_workers_start_as_there_is_room_for() -> None:
    assert DriverHarness(shards(9), workers=3).commands == [StartWorker(f"w{i}") for i in range(3)]


def test_no_more_workers_start_than_there_are_shards() -> None:
    assert DriverHarness(shards(2), workers=3).commands == [StartWorker("w0"), StartWorker("w1")]


def test_a_worker_is_given_nothing_before_its_engine_is_open() -> None:
    driver = DriverHarness(shards(3), workers=1)
    driver.report("w0", slots=0)
    assert driver.assigned == {}


def test_a_worker_holds_the_next_shard_before_the_first_ends() -> None:
    driver = DriverHarness(shards(4), workers=1)
    driver.ready("w0", slots=4)
    assert [key.shard for key in driver.assigned["w0"]] == [0, 1]


def test_a_worker_with_many_slots_holds_rows_for_two_rounds() -> None:
    driver = DriverHarness(shards(20), workers=1)
    driver.ready("w0", slots=64)
    assert len(driver.assigned["w0"]) == 8


def test_a_finished_shard_is_followed_by_another() -> None:
    driver = DriverHarness(shards(4), workers=1)
    driver.ready("w0")
    driver.finishes("w0", AssignmentKey(0, 0, 16))
    assert [key.shard for key in driver.assigned["w0"]] == [1, 2]


def test_an_idle_worker_takes_over_what_another_has_only_queued() -> None:
    driver = DriverHarness(shards(4), workers=2)
    driver.ready("w0", slots=32)
    driver.report("w0", at=[(0, 0)], slots=32)
    driver.ready("w1", slots=8)
    assert [key.shard for key in driver.assigned["w0"]] == [0, 1, 2]
    assert [key.shard for key in driver.assigned["w1"]] == [3]


def test_at_the_tail_an_idle_worker_copies_what_another_is_at() -> None:
    driver = DriverHarness(shards(2), workers=2)
    driver.ready("w0", "w1")
    driver.report("w0", at=[(0, 0)])
    driver.finishes("w1", AssignmentKey(1, 0, 16))
    assert driver.assigned["w1"] == driver.assigned["w0"] == [AssignmentKey(0, 0, 16)]


def test_a_shard_finished_by_one_is_taken_from_the_other() -> None:
    driver = DriverHarness(shards(2), workers=2)
    driver.ready("w0", "w1")
    driver.finishes("w1", AssignmentKey(1, 0, 16))
    driver.finishes("w1", AssignmentKey(0, 0, 16))
    assert driver.assigned["w0"] == []
