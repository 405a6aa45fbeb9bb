"""What workers do before there are tokens, as the display tells it."""

from rgpipeline.dispatch.driver_messages import WorkerStarted
from tests.dispatch.driver_harness import DriverHarness, shards


def test_what_a_worker_does_to_open_its_engine_is_told_until_it_is_open() -> None:
    driver = DriverHarness(shards(2))
    driver.send(WorkerStarted(0.0, "w0"))
    assert driver.dispatch.fleet.opening == ""
    driver.report("w0", slots=0, doing="reading weights, 1.0 GB of 5.4 GB")
    assert driver.dispatch.fleet.opening == "reading weights, 1.0 GB of 5.4 GB"
    driver.report("w0", doing="compiling decode")
    assert driver.dispatch.fleet.opening == ""


def test_a_compilation_is_told_only_while_no_worker_does_anything_else() -> None:
    driver = DriverHarness(shards(2))
    driver.ready("w0", "w1")
    for worker in ("w0", "w1"):
        driver.report(worker, doing="compiling decode")
    assert driver.dispatch.fleet.compiling == "compiling decode"
    driver.report("w1")
    assert driver.dispatch.fleet.compiling == ""
