"""The feeder: in order, not too far ahead, and honest about what stopped it."""

from threading import Condition

import numpy as np
import pytest

from rgpipeline.engine.text_requests import TextRequest
from rgpipeline.errors import StoreError
from rgpipeline.records import Assignment, Shard
from rgpipeline.tasks.task import RowLabel, TextWork
from rgpipeline.worker.feeder import Feeder
from rgpipeline.worker.shared import ActiveAssignment, Batch
from tests.worker.planned_jobs import until

ROW = RowLabel(0, 0, "id", "place")


class Endless:
    """A maker whose assignments never end; each batch has a text of 1,000 bytes."""

    at = None

    def batches(self, active):
        while True:
            request = TextRequest(ROW.key(), np.zeros(250, np.int32))
            yield Batch(active, None, None, [TextWork(ROW, request, ROW.failed)])


class Failing:
    at = None

    def batches(self, active):
        raise StoreError("input is gone")
        yield


@pytest.fixture
def active() -> ActiveAssignment:
    return ActiveAssignment(Assignment(Shard(0, ())))


class Noting(Condition):
    """Says whether a thread waits at it."""

    waits = False

    def wait(self, timeout=None):
        self.waits = True
        try:
            return super().wait(timeout)
        finally:
            self.waits = False


def started(maker, ahead_bytes: int = 10_000) -> Feeder:
    feeder = Feeder(maker, ahead_bytes, lambda: None)
    feeder._changed = Noting()
    feeder.start()
    return feeder


def test_only_so_much_is_made_ready_ahead(active):
    feeder = started(Endless())
    feeder.feed(active)
    until(lambda: feeder.progress_counter >= 11 and feeder._changed.waits)
    assert feeder.progress_counter == 11  # ten that fit, and the one that waits for room
    assert feeder.take() is not None
    until(lambda: feeder.progress_counter >= 12 and feeder._changed.waits)
    assert feeder.progress_counter == 12
    feeder.close()


def test_what_was_made_of_a_dropped_assignment_is_not_handed_out(active):
    feeder = started(Endless())
    feeder.feed(active)
    until(lambda: feeder.progress_counter > 5)
    active.dropped = True
    assert feeder.take() is None
    feeder.close()


def test_what_stopped_it_is_raised_to_whoever_takes(active):
    feeder = started(Failing())
    feeder.feed(active)

    def fails():
        with pytest.raises(StoreError, match="input is gone"):
            feeder.take()
        return True

    until(lambda: feeder._error is not None)
    assert fails()
