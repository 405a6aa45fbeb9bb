"""A job's folder: the same job goes on, anything else is refused and says what differs."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rgpipeline.errors import OutputError, RgpipelineError
from rgpipeline.jobfile import load_job
from rgpipeline.output import JobFolder, read_status
from rgpipeline.plan import open_or_create
from rgpipeline.plan.plan_files import PLAN
from rgpipeline.storage.backends import LocalStore
from rgpipeline.storage.retries import Retry
from rgpipeline.storage.store import RetryingStore, open_store
from tests.io.schedules import FaultyStore, Killed, MemoryStore, Schedule, interleave, patient
from tests.plan.jobs import job, prompts, write_input
from tests.published import done, publish
from tests.storage.servers import Place


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prompts(tmp_path, 40)
    return tmp_path


def store_of(folder: Path) -> RetryingStore:
    return open_store(str(folder / "out"))


def begin(folder: Path, **sections: Any) -> Any:
    return open_or_create(job(folder, **sections), store_of(folder))


def test_the_first_makes_the_plan_and_others_find_it(folder: Path) -> None:
    made = begin(folder)
    found = begin(folder)
    assert found == made
    there = json.loads((folder / "out/_rgp/plan.json").read_text())
    assert there["fingerprint"] == made.fingerprint
    assert load_job(folder / "out/_rgp/job.json") == job(folder)  # whoever has it can run it
    assert sorted(p.name for p in (folder / "out/_rgp").iterdir()) == ["job.json", "plan.json"]


def test_any_character_is_the_same_in_the_job_that_is_kept(folder: Path) -> None:
    strings = ["\x7f", "\x85", "\x9b", "\uffff", "\u2028", "\U0001f600"]
    begin(folder, sampling={"stop": strings})
    assert load_job(folder / "out/_rgp/job.json").sampling.stop == tuple(strings)


def test_a_file_name_that_is_no_utf_8_is_the_same_in_the_job_and_the_plan(tmp_path: Path) -> None:
    path = tmp_path / b"caf\xe9.jsonl".decode("utf-8", "surrogateescape")
    path.write_text('{"prompt": "x"}\n')
    odd = job(tmp_path, str(path))
    made = open_or_create(odd, store_of(tmp_path))
    assert open_or_create(odd, store_of(tmp_path)).files == made.files
    assert load_job(tmp_path / "out/_rgp/job.json") == odd


def test_a_job_that_began_without_ids_goes_on_without(tmp_path: Path) -> None:
    write_input(tmp_path, "a.parquet", {"prompt": ["x"], "id": ["n"]})
    prefixed = job(tmp_path, output={"prefix": "rg_"})
    open_or_create(prefixed, store_of(tmp_path))
    path = tmp_path / "out/_rgp/plan.json"
    facts = json.loads(path.read_text())
    assert facts["columns"]["id"] == "id"
    facts["columns"]["id"] = None  # as earlier versions planned it
    path.write_text(json.dumps(facts))
    assert open_or_create(prefixed, store_of(tmp_path)).columns.id is None


def test_it_is_so_on_every_store(folder: Path, place: Place) -> None:
    options = {"output": {"path": place.url}, "storage_options": place.storage_options}
    store = open_store(place.url, place.storage_options)
    made = open_or_create(job(folder, **options), store)
    assert open_or_create(job(folder, **options), store) == made
    assert list(store.entries()) == ["_rgp"]


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"sampling": {"seed": 1}}, "sampling.seed: 0 there, 1 now"),
        ({"sampling": {"stop": ["x"]}}, 'sampling.stop: [] there, ["x"] now'),
        ({"model": {"weights": "other"}}, 'model.weights: "demo" there, "other" now'),
        (
            {"model": {"weights": "demo", "quantize": "int8"}},
            'model.quantize: "none" there, "int8"',
        ),
        ({"input": {"limit": 5}}, "input.limit: null there, 5 now"),
        ({"output": {"prefix": "x_"}}, 'output.prefix: "" there, "x_" now'),
        ({"task": "score"}, 'task: "generate" there, "score" now'),
    ],
)
def test_a_job_that_would_write_other_bytes_is_refused_naming_the_field(
    folder: Path, sections: dict[str, Any], told: str
) -> None:
    begin(folder)
    with pytest.raises(OutputError) as raised:
        begin(folder, **sections)
    lines = str(raised.value).splitlines()
    assert lines[0] == f"{folder}/out: belongs to a job that differs from this one in"
    assert lines[1].strip().startswith(told)
    assert len(lines) == 3


@pytest.mark.parametrize(
    "sections",
    [
        {"workers": {"count": 3}},
        {"faults": {"worker_timeout_s": 5}},
        {"name": "another"},
        {"storage_options": {"s3": {"anon": True}}},
    ],
)
def test_what_decides_no_bytes_may_change(folder: Path, sections: dict[str, Any]) -> None:
    made = begin(folder)
    assert begin(folder, **sections) == made


def test_another_engine_goes_on_with_a_warning(folder: Path) -> None:
    begin(folder)
    (warning,) = begin(folder, engine={"slots": 3}).warnings
    assert "engine has changed since this job began" in warning


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda path: path.unlink(), "b.parquet is gone"),
        (lambda path: path.write_bytes(b"x"), "b.parquet had .* bytes and has 1"),
        (lambda path: os.utime(path, ns=(1, 1)), "b.parquet was written again"),
        (lambda path: prompts(path.parents[1], 1, "c.parquet"), "c.parquet is new"),
    ],
)
def test_inputs_that_changed_are_refused_naming_the_file(
    folder: Path, change: Any, told: str
) -> None:
    path = prompts(folder, 2, "b.parquet")
    begin(folder)
    change(path)
    with pytest.raises(
        OutputError, match=f"the inputs have changed since this job began:\n  {told}"
    ):
        begin(folder)


def test_of_many_changes_a_few_are_told(folder: Path) -> None:
    begin(folder)
    for number in range(9):
        prompts(folder, 1, f"new{number}.parquet")
    with pytest.raises(OutputError, match=r"new4.parquet is new\n  … and 4 more"):
        begin(folder)


def test_files_past_a_limit_may_come_and_go(folder: Path) -> None:
    made = begin(folder, input={"limit": 5})
    prompts(folder, 1, "later.parquet")
    assert begin(folder, input={"limit": 5}) == made


def test_the_same_input_by_another_path_is_read_where_it_lies_now(folder: Path) -> None:
    begin(folder)
    (folder / "in").rename(folder / "moved")
    plan = begin(folder, path=f"{folder}/moved/*.parquet")
    rows = plan.read(plan.shards[0])
    assert not rows.faults
    assert rows.table.num_rows == 16


def test_a_renamed_folder_above_the_input_keeps_the_partitions(folder: Path) -> None:
    prompts(folder, 1, "day=1/data/year=2024/a.parquet")
    path = f"{folder}/in/day=1/data"
    begin(folder, path=path)
    (folder / "in" / "day=1").rename(folder / "in" / "day=2")
    plan = begin(folder, path=path.replace("day=1", "day=2"))
    assert plan.read(plan.shards[0]).table.to_pylist() == [{"prompt": "0", "year": 2024}]


def test_a_renamed_partition_folder_is_a_changed_input(folder: Path) -> None:
    prompts(folder, 1, "year=2024/b.parquet")
    begin(folder)
    (folder / "in" / "year=2024").rename(folder / "in" / "year=2025")
    with pytest.raises(OutputError, match=r"year=2024/b.parquet is gone"):
        begin(folder)


def test_a_plan_that_took_partitions_from_the_whole_path_refuses_renamed_ones(
    folder: Path,
) -> None:
    prompts(folder, 1, "day=1/a.parquet")
    made = begin(folder, path=f"{folder}/in/day=1/a.parquet")
    older = replace(made, partitions=("day",), files=(replace(made.files[0], below=None),))
    (folder / "out" / "_rgp" / "plan.json").write_bytes(older.to_json())
    (folder / "in" / "day=1").rename(folder / "in" / "day=2")
    with pytest.raises(OutputError, match=r"a.parquet: its folders day=… differ"):
        begin(folder, path=f"{folder}/in/day=2/a.parquet")


def test_a_folder_that_holds_something_else_is_refused(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"out: not empty, .* \(it holds thesis.txt\); name"):
        begin(folder)
    assert [path.name for path in (folder / "out").iterdir()] == ["thesis.txt"]


def test_a_folder_of_a_later_version_is_named(folder: Path) -> None:
    begin(folder)
    for name in ("plan.json", "job.json"):
        (folder / "out/_rgp" / name).write_text('{"version": 99}')
        with pytest.raises(OutputError, match=rf"_rgp/{name}: not understood by rgpipeline"):
            begin(folder)


def test_a_death_between_job_and_plan_is_gone_on_from(folder: Path) -> None:
    made = begin(folder)
    (folder / "out/_rgp/plan.json").unlink()
    assert begin(folder) == made


def published(folder: Path, **sections: Any) -> Any:
    """A job with all rows published; its plan."""
    given = job(folder, **sections)
    publish(given, lambda number, _: [done(str(number))])
    return begin(folder, **sections)


@pytest.mark.parametrize("name", ["job.json", "plan.json"])
def test_a_removed_job_or_plan_is_made_anew_beside_its_parts(folder: Path, name: str) -> None:
    made = published(folder)
    (folder / "out/_rgp" / name).unlink()
    assert begin(folder) == made
    assert read_status(JobFolder.open(str(folder / "out"))).rows_done == 40


def test_parts_of_another_plan_are_not_taken_for_the_jobs(folder: Path) -> None:
    published(folder)
    (folder / "out/_rgp/plan.json").unlink()
    prompts(folder, 41)
    with pytest.raises(OutputError, match=r"plan.json: is not there, and the parts .* another"):
        begin(folder)


def test_a_plan_without_its_job_is_no_other_jobs(folder: Path) -> None:
    published(folder)
    (folder / "out/_rgp/job.json").unlink()
    with pytest.raises(OutputError, match=r"sampling.seed: 0 there, 7 now"):
        begin(folder, sampling={"seed": 7})


def test_a_store_that_overwrites_is_refused_before_any_row(folder: Path) -> None:
    class Overwriting(LocalStore):
        def create(self, name: str, data: bytes) -> bool:
            self.replace(name, data)
            return True

    store = RetryingStore(Overwriting(folder / "out"), Retry())
    with pytest.raises(OutputError, match=r"overwrites objects that it should only create"):
        open_or_create(job(folder), store)
    assert store.list() == []


@pytest.mark.parametrize("seed", range(60))
def test_drivers_who_come_at_once_agree_whoever_dies(folder: Path, seed: int) -> None:
    objects: dict[str, bytes] = {}
    schedule = Schedule([(seed * 7919 + k * k * 31) % 251 for k in range(40)])
    plans: list[Any] = []

    def driver(turn: Any) -> None:
        for _ in range(100):
            try:
                store = patient(FaultyStore(objects, schedule, turn))
                plans.append(open_or_create(job(folder), store))
                return
            except (Killed, RgpipelineError):
                continue

    interleave(schedule, [driver, driver, driver])
    assert len(plans) == 3
    assert len({plan.fingerprint for plan in plans}) == 1
    assert open_or_create(job(folder), MemoryStore(objects)).fingerprint == plans[0].fingerprint


def test_shards_cut_for_other_workers_at_the_same_moment_hold(tmp_path: Path) -> None:
    prompts(tmp_path, 10_000)

    class Overtaken(LocalStore):
        """Somebody else's plan comes between a look for one and the creation."""

        def create(self, name: str, data: bytes) -> bool:
            if name == PLAN and not self.exists(name):
                begin(tmp_path, workers={"count": 9999})
            return super().create(name, data)

    store = RetryingStore(Overtaken(tmp_path / "out"), Retry())
    plan = open_or_create(job(tmp_path, workers={"count": 2}), store)
    assert len(plan.shards) == 625
    assert plan == begin(tmp_path)
