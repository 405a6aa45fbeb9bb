"""How a run's end is told: why it failed, and what is published."""

import errno
from pathlib import Path

import pytest

from rgpipeline.dispatch.driver_messages import JobEnded
from rgpipeline.output import Heartbeat, ShardProgress
from rgpipeline.runtime.event_log import EventLog
from rgpipeline.runtime.job_progress import summary_of
from rgpipeline.storage.retries import Retry
from rgpipeline.storage.store import RetryingStore, open_store
from tests.worker.planned_jobs import Instead

SHARDS = [ShardProgress(0, 1000, rows_done=550, rows_failed=10), ShardProgress(1, 1000)]


@pytest.mark.parametrize(
    ("end", "shards", "message"),
    [
        (
            JobEnded("failed", "the disk is full"),
            SHARDS,
            "the disk is full\n560 of 2,000 rows are published",
        ),
        (JobEnded("failed", "no worker"), SHARDS[1:], "no worker"),
        (JobEnded("failed", "no weights", users_fault=True), SHARDS, "no weights"),
        (JobEnded("finished"), SHARDS, ""),
    ],
)
def test_a_failed_job_says_how_many_rows_are_published(
    end: JobEnded, shards: list[ShardProgress], message: str
) -> None:
    assert summary_of(end, shards, "out", 1.0).message == message


def test_the_journal_says_that_the_store_is_full_until_it_can_write(tmp_path: Path) -> None:
    def full(name: str, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    inner = Instead(open_store(str(tmp_path)), replace=full)
    event_log = EventLog(RetryingStore(inner, Retry()), lambda: None)
    event_log.close(Heartbeat("running", 0.0))
    assert "summary.json: the disk is full; free some space" in event_log.full
    del inner.replace
    event_log.close(Heartbeat("running", 0.0))
    assert event_log.full == ""
