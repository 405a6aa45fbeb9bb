"""How a job stands: told from its folder alone, however it was left."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rgpipeline.errors import OutputError
from rgpipeline.output import (
    Heartbeat,
    JobFolder,
    ShardProgress,
    read_heartbeat,
    read_progress,
    read_status,
    write_heartbeat,
    write_success,
)
from rgpipeline.plan import open_or_create
from rgpipeline.records import OutputRow
from rgpipeline.spec import Job
from rgpipeline.storage.store import RetryingStore, open_store
from tests.published import done, failed, job_over, publish
from tests.storage.servers import Place

NOW = 1_800_000_000.0
SAID = Heartbeat("running", NOW - 5, workers=2, tokens_per_second=12.5, eta_seconds=60.0)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return job_over(tmp_path, [{"prompt": f"p{k}"} for k in range(40)])


def some(number: int, _: Any) -> Sequence[OutputRow]:
    if number == 0:
        return [failed("0")]
    if number == 1:
        return [done("1", segment=0, finish_reason=None, tokens=9)]
    if number == 2:
        return [done("2", sample=1, samples=2)]
    return [done(str(number))] if number < 20 else []


def store_of(job: Job) -> RetryingStore:
    return open_store(job.output.path, job.storage_options)


def state(job: Job, heartbeat: Heartbeat | None, success: bool = False) -> str:
    """How a job stands that has no rows, or, with `success`, all of them."""
    store = store_of(job)
    open_or_create(job, store)
    if success:
        publish(job, lambda number, _: [done(str(number))], success=False)
    if heartbeat:
        write_heartbeat(store, heartbeat)
    if success:
        write_success(store)
    return read_status(JobFolder.open(job.output.path), NOW).state


def test_rows_and_tokens_are_those_published(job: Job) -> None:
    publish(job, some, success=False)
    status = read_status(JobFolder.open(job.output.path))
    assert (status.rows, status.rows_done, status.rows_failed) == (40, 17, 1)
    assert (status.prompt_tokens, status.completion_tokens) == (2 * 19, 3 * 18 + 9)
    assert (status.shards, status.shards_finished) == (3, 0)


def test_progress_is_told_of_every_shard(job: Job) -> None:
    publish(job, some, success=False)
    shards = read_progress(JobFolder.open(job.output.path))
    assert [(s.rows, s.rows_done, s.rows_failed, s.parts) for s in shards] == [
        (16, 13, 1, 1),
        (16, 4, 0, 1),
        (8, 0, 0, 0),
    ]
    assert shards[2] == ShardProgress(2, 8)


def test_a_shard_is_finished_with_failed_rows_too(job: Job) -> None:
    publish(job, lambda number, _: [failed("x") if number % 2 else done("x")])
    assert all(shard.finished for shard in read_progress(JobFolder.open(job.output.path)))
    assert read_status(JobFolder.open(job.output.path)).shards_finished == 3


@pytest.mark.parametrize(
    ("heartbeat", "success", "expected"),
    [
        (None, False, "planned"),
        (SAID, False, "running"),
        (replace(SAID, updated=NOW - 1000), False, "interrupted"),
        (replace(SAID, state="interrupted", updated=NOW - 1000), False, "interrupted"),
        (replace(SAID, state="failed", updated=NOW - 1000), False, "failed"),
        (replace(SAID, state="finished"), False, "interrupted"),
        (replace(SAID, state="finished"), True, "finished"),
        (SAID, True, "finished"),
        (None, True, "finished"),
    ],
)
def test_a_state_is_told_however_the_driver_ended(
    job: Job, heartbeat: Heartbeat | None, success: bool, expected: str
) -> None:
    assert state(job, heartbeat, success) == expected


def test_speed_and_workers_are_those_of_a_driver_that_runs(job: Job) -> None:
    state(job, SAID)
    running = read_status(JobFolder.open(job.output.path), NOW)
    assert (running.workers, running.eta_seconds, running.updated) == (2, 60.0, NOW - 5)
    dead = read_status(JobFolder.open(job.output.path), NOW + 1000)
    assert (dead.workers, dead.eta_seconds, dead.tokens_per_second) == (0, None, 12.5)


def test_json_is_as_documented(job: Job) -> None:
    state(job, SAID)
    assert read_status(JobFolder.open(job.output.path), NOW).to_json() == {
        "state": "running",
        "rows": {"total": 40, "done": 0, "failed": 0},
        "tokens": {"prompt": 0, "completion": 0},
        "shards": {"total": 3, "finished": 0},
        "workers": 2,
        "tokens_per_second": 12.5,
        "eta_seconds": 60.0,
        "updated": "2027-01-15T07:59:55+00:00",
        "warnings": [],
    }


def test_a_heartbeat_comes_back_and_the_last_one_holds(job: Job) -> None:
    store = store_of(job)
    assert read_heartbeat(store) is None
    for beat in (SAID, replace(SAID, details={"decode_s": 1.5})):
        write_heartbeat(store, beat)
        assert read_heartbeat(store) == beat


@pytest.mark.parametrize("said", [b"", b"{", b"[]", b'{"mood": "good"}'])
def test_a_damaged_heartbeat_stops_nobody(job: Job, said: bytes) -> None:
    publish(job, some, success=False)
    store_of(job).replace("_rgp/summary.json", said)
    status = read_status(JobFolder.open(job.output.path))
    assert (status.state, status.rows_done) == ("interrupted", 17)


def in_four_parts(job: Job) -> Path:
    """A finished job with its rows 0 to 15 in four parts; the folder."""
    for last in range(4, 44, 4):
        publish(job, lambda number, _, last=last: [done(str(number))] * (number < last))
    return Path(job.output.path)


def test_a_removed_part_is_told_and_its_rows_are_to_do(job: Job) -> None:
    folder = in_four_parts(job)
    (folder / "part-00000-0001.parquet").unlink()
    status = read_status(JobFolder.open(job.output.path))
    assert (status.state, status.rows_done, status.shards_finished) == ("interrupted", 36, 2)
    (warning,) = status.warnings
    assert "1 part of unfinished shards missing (part-00000-0001.parquet)" in warning


def test_a_removed_last_part_is_told_by_the_rows_it_had(job: Job) -> None:
    folder = in_four_parts(job)
    (folder / "part-00000-0003.parquet").unlink()
    status = read_status(JobFolder.open(job.output.path))
    assert (status.state, status.rows_done) == ("interrupted", 36)
    assert "was finished, but lacks 4 rows now" in status.warnings[0]


def test_what_was_removed_is_no_matter_once_it_is_done_again(job: Job) -> None:
    folder = in_four_parts(job)
    (folder / "part-00000-0001.parquet").unlink()
    publish(job, lambda number, _: [done(str(number))])
    assert sorted(path.name for path in folder.glob("part-00000-*")) == [
        f"part-00000-000{number}.parquet" for number in (0, 2, 3, 4)
    ]
    status = read_status(JobFolder.open(job.output.path))
    assert (status.state, status.rows_done, status.warnings) == ("finished", 40, ())


def test_rows_that_stand_twice_count_once_and_are_told(job: Job, tmp_path: Path) -> None:
    folder = in_four_parts(job)
    removed = folder / "part-00000-0001.parquet"
    kept = removed.rename(tmp_path / "kept")
    publish(job, lambda number, _: [done(str(number))])
    kept.rename(removed)  # brought back after its rows were done again
    status = read_status(JobFolder.open(job.output.path))
    assert (status.state, status.rows_done) == ("finished", 40)
    assert "rows are published twice: part-00000-0004.parquet repeats" in status.warnings[0]


def test_a_folder_that_is_no_output_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"x: not the output of a job"):
        read_status(JobFolder.open(f"{tmp_path}/x"))


def test_it_is_told_from_every_store(place: Place, tmp_path: Path) -> None:
    job = job_over(
        tmp_path,
        [{"prompt": f"p{k}"} for k in range(40)],
        output={"path": place.url},
        storage_options=place.storage_options,
    )
    publish(job, lambda number, _: [done(str(number))])
    status = read_status(JobFolder.open(place.url, place.storage_options))
    assert (status.state, status.rows_done, status.shards_finished) == ("finished", 40, 3)
