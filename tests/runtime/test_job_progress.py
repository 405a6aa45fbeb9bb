"""How a run's end is told: why it failed, and what is published."""

import errno
from pathlib import Path

import pytest

from rgpipeline.dispatch import End
from rgpipeline.output import Heartbeat, ShardProgress
from rgpipeline.runtime.event_log import Journal
from rgpipeline.runtime.job_progress import summary_of
from rgpipeline.storage.retries import Retry
from rgpipeline.storage.store import RetryingStore, open_store
from tests.worker.hand import Instead

SHARDS = [ShardProgress(0, 1000, rows_done=550, rows_failed=10), ShardProgress(1, 1000)]


@pytest.mark.parametrize(
    ("end", "shards", "message"),
    [
        (
            End("failed", "the disk is full"),
            SHARDS,
            "the disk is full\n560 of 2,000 rows are published",
        ),
        (End("failed", "no worker"), SHARDS[1:], "no worker"),
        (End("failed", "no weights", users_fault=True), SHARDS, "no weights"),
        (End("finished"), SHARDS, ""),
    ],
)
def test_a_failed_job_says_how_many_rows_are_published(
    end: End, shards: list[ShardProgress], message: str
) -> None:
    assert summary_of(end, shards, "out", 1.0).message == message


def test_the_journal_says_that_the_store_is_full_until_it_can_write(tmp_path: Path) -> None:
    def full(name: str, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    inner = Instead(open_store(str(tmp_path)), replace=full)
    journal = Journal(RetryingStore(inner, Retry()), lambda: None)
    journal.close(Heartbeat("running", 0.0))
    assert "summary.json: the disk is full; free some space" in journal.full
    del inner.replace
    journal.close(Heartbeat("running", 0.0))
    assert journal.full == ""
