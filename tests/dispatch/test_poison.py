"""A row that kills its worker is found, and only that row."""

import pytest

from rgpipeline.dispatch.driver_messages import JobEnded, StartWorker, Tick, WorkerDied
from rgpipeline.dispatch.failure_tracker import Policy
from tests.dispatch.driver_harness import DriverHarness, shards


def run_with_poison(
    poison: tuple[int, int], count: int = 3, raised_at: str = ""
) -> tuple[DriverHarness, list[tuple[int, int]]]:
    """Workers finish whatever they hold, one unit a report, unless the poison row is in it.

    It kills the process, or has the engine raise an exception.
    """
    driver, marked = DriverHarness(shards(count), workers=1), []
    while not driver.commands_of(JobEnded):
        driver.now += 100.0
        driver.send(Tick(driver.now))
        worker = driver.commands_of(StartWorker)[-1].worker
        if worker not in driver.reports:
            driver.ready(worker)
        key = driver.assigned[worker][0]
        given_up = driver.failed[worker][key]
        marked += [(key.shard, row) for row in given_up]
        in_it = key.shard == poison[0] and key.start <= poison[1] < key.stop
        if in_it and not given_up:
            driver.report(worker, at=[(key.shard, row) for row in range(key.start, key.stop)])
            if raised_at:
                facts = {"error": "odd", "fault": "worker", "in_engine": True}
                driver.report(worker, raised_at=raised_at, **facts)
            else:
                driver.crashes(worker)
        else:
            driver.finishes(worker, key, failed=len(given_up))
    return driver, marked


@pytest.mark.parametrize("raised_at", ["", "ValueError at a.py:1"], ids=["killed", "raised"])
@pytest.mark.parametrize("count", [1, 2, 3, 6])
@pytest.mark.parametrize("row", [0, 7, 15])
def test_exactly_the_poison_row_is_convicted(row: int, count: int, raised_at: str) -> None:
    shard = min(1, count - 1)
    driver, marked = run_with_poison((shard, row), count, raised_at)
    assert marked == [(shard, row)]
    assert driver.commands_of(JobEnded) == [JobEnded("finished")]


def test_every_other_row_is_finished() -> None:
    work = run_with_poison((1, 5))[0].dispatch.work
    assert (work.shards_finished, work.rows_finished, work.rows_failed) == (3, 48, 1)


def test_a_suspected_range_is_a_workers_only_work() -> None:
    driver = DriverHarness(shards(4), workers=1)
    worker = "w0"
    for _ in range(2):
        driver.ready(worker)
        driver.report(worker, at=[(0, 3)])
        worker = driver.crashes(worker)
    driver.ready(worker)
    assert len(driver.assigned[worker]) == 1
    assert driver.assigned[worker][0].rows == 8


def test_a_worker_that_leaves_its_node_marks_no_row() -> None:
    driver = DriverHarness(shards(1), workers=1, policy=Policy(failures_to_suspect=1))
    driver.ready("w0")
    driver.report("w0", at=[(0, 3)])
    driver.send(WorkerDied(1.0, "w0", "removed", "spot"))
    driver.ready("w1")
    assert driver.assigned["w1"] == [(0, 0, 16)]


def test_a_long_row_that_gets_on_between_deaths_is_neither_convicted_nor_given_up() -> None:
    driver = DriverHarness(shards(1, rows=1), workers=1)
    for life in range(30):
        driver.now += 100.0
        driver.send(Tick(driver.now))
        driver.ready(f"w{life}")
        assert driver.failed[f"w{life}"] == {(0, 0, 1): []}
        driver.report(f"w{life}", at=[(0, 0)], saved=1)
        driver.crashes(f"w{life}")
    assert not driver.commands_of(JobEnded)


def test_a_row_that_got_on_and_then_kills_at_one_place_is_convicted() -> None:
    driver = DriverHarness(shards(1, rows=1), workers=1)
    for life in range(8):
        driver.now += 100.0
        driver.send(Tick(driver.now))
        driver.ready(f"w{life}")
        if driver.failed[f"w{life}"] == {(0, 0, 1): [0]}:
            return
        driver.report(f"w{life}", at=[(0, 0)], saved=int(life < 3))
        driver.crashes(f"w{life}")
    raise AssertionError("never marked")


def test_no_row_is_convicted_before_any_was_done() -> None:
    driver = DriverHarness(shards(2), workers=1)
    while not driver.commands_of(JobEnded):
        driver.now += 100.0
        driver.send(Tick(driver.now))
        worker = driver.commands_of(StartWorker)[-1].worker
        if worker not in driver.reports:
            driver.ready(worker)
        assert not any(driver.failed[worker].values())
        key = driver.assigned[worker][0]
        driver.report(worker, at=[(key.shard, row) for row in range(key.start, key.stop)])
        driver.crashes(worker)
    assert "in a row were lost before any row was done" in driver.commands_of(JobEnded)[0].message
