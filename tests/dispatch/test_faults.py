"""Workers die, hang, fail to start, and leave; the job ends as it should."""

from typing import Any

from rgpipeline.dispatch.driver_messages import (
    DesiredWorkers,
    DrainWorker,
    JobEnded,
    KillWorker,
    StartWorker,
    StopRequested,
    StoreFull,
    Tick,
    WorkerDied,
    WorkerDraining,
    WorkerStarted,
)
from rgpipeline.dispatch.failure_tracker import Policy
from rgpipeline.dispatch.work_queue import WorkQueue
from rgpipeline.records import AssignmentKey, ShardDone
from tests.dispatch.driver_harness import DriverHarness, shards


def test_the_job_ends_when_every_shard_is_finished() -> None:
    driver = DriverHarness(shards(1), workers=1)
    driver.ready("w0")
    assert driver.finishes("w0", AssignmentKey(0, 0, 16))[-1] == JobEnded("finished")


def test_a_job_with_nothing_left_to_do_starts_no_worker() -> None:
    work = WorkQueue(shards(1), finished=[ShardDone(0, 16, 0)])
    assert DriverHarness(work).commands == [JobEnded("finished")]


def test_a_crashed_worker_is_replaced_and_its_shards_go_to_the_next() -> None:
    driver = DriverHarness(shards(2), workers=1)
    driver.ready("w0")
    new = driver.crashes("w0")
    driver.ready(new)
    assert [key.shard for key in driver.assigned[new]] == [0, 1]


def test_a_worker_without_progress_is_killed() -> None:
    driver = DriverHarness(shards(2), workers=1, policy=Policy(worker_timeout_s=10))
    driver.ready("w0")
    driver.send(Tick(10.5))
    assert [command.worker for command in driver.commands_of(KillWorker)] == ["w0"]


def test_an_idle_worker_is_not_killed() -> None:
    driver = DriverHarness(shards(2), workers=2, policy=Policy(worker_timeout_s=10, copies=1))
    driver.ready("w0")
    driver.report("w0", at=[(0, 0), (1, 0)])
    driver.ready("w1")
    driver.now = 20.0
    driver.report("w0")
    driver.send(Tick(25.0))
    assert not driver.commands_of(KillWorker)


def test_what_a_given_up_worker_still_says_is_ignored() -> None:
    driver = DriverHarness(shards(2), workers=1)
    driver.ready("w0")
    driver.crashes("w0")
    assert driver.finishes("w0", AssignmentKey(0, 0, 16)) == []
    assert driver.dispatch.work.shards_finished == 0


def test_three_failed_starts_end_the_job_with_the_workers_own_words() -> None:
    driver = DriverHarness(shards(2), workers=1)
    for worker in ("w0", "w1", "w2"):
        driver.now += 100.0
        driver.send(Tick(driver.now))
        driver.report(worker, slots=0, error="out of memory", fault="worker")
    end = driver.commands[-1]
    assert isinstance(end, JobEnded)
    assert end.outcome == "failed"
    assert end.message == "no worker can start, tried 3 times: out of memory"


def fails(
    driver: DriverHarness, worker: str, raised_at: str = "ValueError at a.py:1", **report: Any
) -> None:
    """A worker is lost by an exception."""
    facts = {"error": "ValueError: odd", "fault": "worker", "raised_at": raised_at, **report}
    driver.report(worker, **facts)


def test_an_exception_that_two_workers_meet_in_one_place_ends_the_job() -> None:
    driver = DriverHarness(shards(9), workers=1)
    for worker in ("w0", "w1"):
        driver.ready(worker)
        fails(driver, worker)
    assert driver.commands[-1] == JobEnded(
        "failed", "2 workers in a row met the same error: ValueError: odd"
    )


def test_so_it_is_with_rows_done_long_before() -> None:
    driver = DriverHarness(shards(9), workers=1)
    driver.ready("w0")
    driver.finishes("w0", AssignmentKey(0, 0, 16))
    fails(driver, "w0")
    driver.ready("w1")
    fails(driver, "w1")
    assert driver.commands_of(JobEnded)[0].outcome == "failed"


def test_one_that_comes_again_after_some_rows_were_done_does_not() -> None:
    driver = DriverHarness(shards(9), workers=1)
    for worker in ("w0", "w1", "w2"):
        driver.ready(worker)
        driver.finishes(worker, driver.assigned[worker][0])
        fails(driver, worker)
    assert not driver.commands_of(JobEnded)


def test_exceptions_in_two_places_do_not() -> None:
    driver = DriverHarness(shards(9), workers=1)
    for number, worker in enumerate(("w0", "w1", "w2")):
        driver.now += 100.0
        driver.send(Tick(driver.now))
        driver.ready(worker)
        fails(driver, worker, f"ValueError at a.py:{number}")
    assert not driver.commands_of(JobEnded)


def test_one_that_a_worker_is_spared_does_not() -> None:
    driver = DriverHarness(shards(9), workers=2)
    driver.ready("w0")
    driver.now = 1.0
    for bad in ("w1", "w2"):
        driver.ready(bad)
        fails(driver, bad)
    assert not driver.commands_of(JobEnded)


def test_the_engines_exception_over_different_rows_is_no_rows_fault() -> None:
    driver = DriverHarness(shards(9), workers=1)
    for worker in ("w0", "w1"):
        driver.ready(worker)
        fails(driver, worker, in_engine=True)
    assert (
        driver.commands_of(JobEnded)[0].message
        == "2 workers in a row met the same error: ValueError: odd"
    )


def test_a_full_store_ends_the_job_at_once() -> None:
    driver = DriverHarness(shards(9), workers=2)
    driver.ready("w0", "w1")
    driver.report("w0", error="writing x: the disk is full", fault="full")
    assert driver.commands[-1] == JobEnded("failed", "writing x: the disk is full")


def test_a_store_that_the_driver_finds_full_ends_the_job_at_once() -> None:
    driver = DriverHarness(shards(9), workers=2)
    assert driver.send(StoreFull(1.0, "the disk is full")) == [
        JobEnded("failed", "the disk is full")
    ]


def test_a_users_mistake_ends_the_job_at_once() -> None:
    driver = DriverHarness(shards(2), workers=1)
    driver.report("w0", slots=0, error="no such weights", fault="user")
    assert driver.commands[-1] == JobEnded("failed", "no such weights", users_fault=True)


def test_a_bad_host_does_not_end_a_job_that_others_work_at() -> None:
    driver = DriverHarness(shards(9), workers=2)
    driver.ready("w0")
    for _ in range(9):
        driver.now += 200.0
        bad = driver.commands_of(StartWorker)[-1].worker
        driver.report(bad, slots=0, error="no driver", fault="worker")
        driver.report("w0", at=[(0, 0)], rows_done=int(driver.now))
    assert not driver.commands_of(JobEnded)


def test_endless_deaths_without_progress_end_the_job() -> None:
    driver = DriverHarness(shards(2), workers=1)
    for _ in range(30):
        driver.now += 100.0
        driver.send(Tick(driver.now))
        if driver.commands_of(JobEnded):
            break
        worker = driver.commands_of(StartWorker)[-1].worker
        driver.ready(worker)
        driver.crashes(worker)
    assert "in a row were lost before any row was done" in driver.commands_of(JobEnded)[0].message


def test_more_restarts_than_allowed_end_the_job() -> None:
    driver = DriverHarness(shards(2), workers=1, policy=Policy(max_restarts=0))
    driver.ready("w0")
    driver.crashes("w0")
    assert "max_worker_restarts" in driver.commands_of(JobEnded)[0].message


def test_a_lost_node_is_nobodys_fault() -> None:
    driver = DriverHarness(shards(2), workers=1, policy=Policy(max_restarts=0))
    driver.ready("w0")
    driver.send(WorkerDied(1.0, "w0", "removed", "the node went away"))
    assert [command.worker for command in driver.commands_of(StartWorker)] == ["w0", "w1"]


def test_a_draining_worker_keeps_what_it_has_begun_and_passes_on_the_rest() -> None:
    driver = DriverHarness(shards(3), workers=2)
    driver.ready("w0", slots=4)
    driver.report("w0", at=[(0, 0)], slots=4)
    driver.send(WorkerDraining(1.0, "w0"))
    driver.ready("w1", slots=4)
    assert driver.assigned["w0"] == [AssignmentKey(0, 0, 16)]
    assert [key.shard for key in driver.assigned["w1"]] == [1, 2]


def test_a_stopped_job_ends_when_its_workers_have_left() -> None:
    driver = DriverHarness(shards(2), workers=2)
    driver.ready("w0", "w1")
    driver.send(StopRequested(1.0))
    assert len(driver.commands_of(DrainWorker)) == 2
    driver.report("w0", stopped=True)
    assert driver.report("w1", stopped=True)[-1] == JobEnded("stopped")


def test_new_room_is_used() -> None:
    driver = DriverHarness(shards(9), workers=1)
    driver.send(DesiredWorkers(1.0, 3))
    assert len(driver.commands_of(StartWorker)) == 3


def test_workers_that_wait_for_room_are_withdrawn_when_it_shrinks() -> None:
    driver = DriverHarness(shards(9), workers=3)
    driver.send(WorkerStarted(0.0, "w0"))
    driver.send(DesiredWorkers(1.0, 1))
    assert {command.worker for command in driver.commands_of(KillWorker)} == {"w1", "w2"}


def test_more_failed_rows_than_allowed_end_the_job() -> None:
    driver = DriverHarness(shards(2), workers=1, policy=Policy(max_failed_rows=1))
    driver.ready("w0")
    end = driver.finishes("w0", AssignmentKey(0, 0, 16), failed=2)[-1]
    assert end == JobEnded("failed", "2 rows have failed, faults.max_failed_rows is 1")


def test_an_idle_worker_that_says_nothing_is_killed() -> None:
    driver = DriverHarness(shards(2), workers=2, policy=Policy(silence_s=10, copies=1))
    driver.ready("w0")
    driver.report("w0", at=[(0, 0), (1, 0)])
    driver.ready("w1")
    driver.now = 11.0
    driver.report("w0", at=[(0, 0), (1, 0)])
    driver.send(Tick(11.0))
    assert [command.worker for command in driver.commands_of(KillWorker)] == ["w1"]


def test_a_worker_that_waits_for_room_without_end_is_replaced() -> None:
    driver = DriverHarness(shards(2), workers=1, policy=Policy(pending_timeout_s=10))
    driver.send(Tick(11.0))
    assert [command.worker for command in driver.commands_of(KillWorker)] == ["w0"]
    assert [command.worker for command in driver.commands_of(StartWorker)] == ["w0", "w1"]
