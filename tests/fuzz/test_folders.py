"""Folders with links, odd names and things that are no files; outputs with parts removed."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from rgpipeline.worker.shared import WorkerPolicy
from tests.fuzz.jobs import Refused, bounded, run
from tests.worker.planned_jobs import PROMPTS, finish, plan_job

NAMES = st.sampled_from(
    [
        "a",
        "b c",
        "ü",
        "100%",
        "50%20",
        "x#1",
        "[z]",
        "{q}",
        "k=01",
        "day=2",
        "m=1e3",
        "it's",
        "~",
        "a:b",
    ]
)
ODD = "caf\udce9"  # a name that isn't UTF-8: the byte E9
Kind = Literal["file", "link", "linked folder", "dangling", "loop", "fifo", "hidden"]
Entry = tuple[list[str], str, Kind]
ENTRIES = st.lists(
    st.tuples(
        st.lists(NAMES, max_size=2),
        NAMES | st.just(ODD),
        st.sampled_from(["file", "file", *Kind.__args__]),  # type: ignore[attr-defined]
    ),
    min_size=1,
    max_size=6,
)


def build(folder: Path, entries: list[Entry]) -> Iterator[int]:
    """Makes the tree `folder/in`; the numbers of the rows that a job over it must do."""
    apart = folder / "apart"  # what links lead to
    for index, (above, name, kind) in enumerate(entries):
        parent = (folder / "in").joinpath(*above)
        parent.mkdir(parents=True, exist_ok=True)
        place = parent / f"{index}{name}{'' if kind in ('linked folder', 'loop') else '.parquet'}"
        target = apart / str(index)
        target.mkdir(parents=True)
        numbers = [2 * index, 2 * index + 1]
        rows = pa.table({"n": numbers, "prompt": ["a", "b"]})
        if kind in ("link", "linked folder"):
            pq.write_table(rows, target / "blob.parquet")
            place.symlink_to(target if kind == "linked folder" else target / "blob.parquet")
        elif kind == "dangling":
            place.symlink_to(target / "nowhere")
        elif kind == "loop":
            place.symlink_to(folder / "in", target_is_directory=True)
        elif kind == "fifo":
            os.mkfifo(place)
        else:
            hidden = parent / f".{place.name}" if kind == "hidden" else place
            with hidden.open("wb") as sink:
                pq.write_table(rows, sink)
        if kind in ("file", "link", "linked folder"):
            yield from numbers


@bounded
@given(ENTRIES, st.sampled_from(["{}/in", "{}/in/**/*.parquet", "{}/in/"]))
def test_each_file_that_can_be_reached_is_read_once(entries: list[Entry], path: str) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        expected = Counter(build(folder, entries))
        done = run(folder, {"path": path.format(name)}, output={"keep": ["n"]})
    if isinstance(done, Refused):  # a link to nothing may stand for rows that are missed
        dangling = any(kind == "dangling" for _, _, kind in entries)
        assert "a link to" in done.message if dangling else not expected, done.message
        return
    assert Counter(row["n"] for row in done) == expected
    assert not [row["error"] for row in done if row["error"] is not None]


@bounded
@given(st.lists(st.sets(st.integers(0, 7), max_size=3), min_size=1, max_size=2))
def test_rows_come_once_though_parts_are_removed(removals: list[set[int]]) -> None:
    rows = [{"ids": prompt} for prompt in PROMPTS]
    small_parts = WorkerPolicy(part_bytes=1, part_s=0.0)
    with TemporaryDirectory() as name:
        given_job = plan_job(Path(name), rows, output={"token_ids": True})
        finish(given_job.worker("first", policy=small_parts), given_job.assignments)
        whole = given_job.rows()
        for attempt, numbers in enumerate(removals):
            for part in [p for number, p in enumerate(given_job.parts()) if number in numbers]:
                part.unlink()
            worker = given_job.worker(f"again {attempt}", policy=small_parts)
            report = finish(worker, given_job.assignments)
            assert report.error is None
            assert given_job.rows() == whole
