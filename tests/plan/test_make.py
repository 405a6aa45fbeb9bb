"""Making a plan: rows cut into shards, schemas merged, every mistake in the input named."""

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgpipeline.errors import InputError, JobError
from rgpipeline.plan import Plan, make_plan
from rgpipeline.plan.planner import cut_shards, rows_of_a_shard
from rgpipeline.spec import WorkersSpec
from tests.plan.jobs import job, prompts, write_input


@given(st.lists(st.integers(0, 50), max_size=12), st.integers(1, 40))
def test_shards_cover_every_row_once_in_order(rows: list[int], size: int) -> None:
    shards = cut_shards(rows, size)
    covered = [
        (span.file, row)
        for shard in shards
        for span in shard.spans
        for row in range(span.start, span.stop)
    ]
    assert covered == [(file, row) for file, count in enumerate(rows) for row in range(count)]
    assert all(shard.rows == size for shard in shards[:-1])
    assert [shard.index for shard in shards] == list(range(len(shards)))


def test_tiny_files_share_shards(tmp_path: Path) -> None:
    for number in range(40):
        prompts(tmp_path, 2, f"{number:02d}.parquet")
    assert [shard.rows for shard in make_plan(job(tmp_path)).shards] == [16] * 5


@pytest.mark.parametrize(
    ("workers", "rows", "shards"),
    [
        ({"count": 2}, 2_000_000, 256),
        ({}, 2_000_000, 1024),
        ({"count": 1000}, 2_000_000, 10_000),
        ({"min": 500}, 2_000_000, 5000),
        ({"count": 1000}, 1600, 100),  # a shard of fewer rows than 16 is not worth its part
        ({"count": 2}, 10_000_000, 1221),  # nor is one of more than 8,192 to be lost
    ],
)
def test_there_are_ten_shards_for_each_worker_that_may_come(
    workers: dict[str, int], rows: int, shards: int
) -> None:
    assert math.ceil(rows / rows_of_a_shard(rows, WorkersSpec(**workers))) == shards


def test_a_row_of_many_samples_is_as_much_as_many_rows() -> None:
    two = WorkersSpec(count=2)
    assert [rows_of_a_shard(100, two, samples) for samples in (1, 4, 32)] == [16, 4, 1]
    assert rows_of_a_shard(10_000_000, two, 4) == 2048


def test_rows_of_many_bytes_make_small_shards(tmp_path: Path) -> None:
    write_input(tmp_path, "a.parquet", {"prompt": ["x"] * 64}, compression="none")
    big = tmp_path / "in" / "a.parquet"
    plan = make_plan(job(tmp_path))
    assert max(shard.rows for shard in plan.shards) == 16
    with big.open("r+b") as file:  # a file of 16 GiB, but for the holes in it
        data = file.read()
        file.seek(16 << 30)
        file.write(b"PAR1" + data[4:])
        file.seek(0)
    assert max(shard.rows for shard in make_plan(job(tmp_path)).shards) == 1


@pytest.mark.parametrize(("limit", "files"), [(1, 1), (10, 1), (11, 2), (10_000, 3)])
def test_a_limit_takes_the_first_rows_and_looks_no_further(
    tmp_path: Path, limit: int, files: int
) -> None:
    for name in "abc":
        prompts(tmp_path, 10, f"{name}.parquet")
    plan = make_plan(job(tmp_path, input={"limit": limit}))
    assert (plan.rows, len(plan.files)) == (min(limit, 30), files)


def test_columns_are_those_of_all_files_with_types_widened(tmp_path: Path) -> None:
    write_input(tmp_path, "a.parquet", {"prompt": ["a"], "n": pa.array([1], pa.int32())})
    write_input(tmp_path, "b.parquet", {"n": pa.array([2.5]), "prompt": ["b"], "more": [[1]]})
    plan = make_plan(job(tmp_path))
    assert plan.schema == pa.schema(
        [("prompt", pa.string()), ("n", pa.float64()), ("more", pa.list_(pa.int64()))]
    )
    assert plan.read(plan.shards[0]).table.to_pylist() == [
        {"prompt": "a", "n": 1.0, "more": None},
        {"prompt": "b", "n": 2.5, "more": [1]},
    ]


def test_types_that_do_not_go_together_are_named_with_their_files(tmp_path: Path) -> None:
    write_input(tmp_path, "a.parquet", {"prompt": ["a"], "n": [1]})
    write_input(tmp_path, "b.parquet", {"prompt": ["a"], "n": ["x"]})
    told = r"'n' has types that don't go together: .*int64 in .*a.parquet|string in .*b.parquet"
    with pytest.raises(InputError, match=told):
        make_plan(job(tmp_path))


def test_only_columns_that_are_kept_or_used_are_read(tmp_path: Path) -> None:
    write_input(tmp_path, "a.parquet", {"q": ["a"], "name": ["n"], "big": ["x"], "tag": ["t"]})
    columns = {"prompt": "q", "id": "name"}
    plan = make_plan(job(tmp_path, input={"columns": columns}, output={"keep": ["tag"]}))
    assert (plan.schema.names, plan.used) == (["tag"], ("q", "name"))
    fields = make_plan(job(tmp_path, input={"template": "{q} {tag}"}, output={"keep": []}))
    assert (fields.schema.names, fields.used) == ([], ("q", "tag"))


def test_a_column_called_id_and_mapped_to_it_is_not_kept_twice(tmp_path: Path) -> None:
    write_input(tmp_path, "a.parquet", {"prompt": ["a"], "id": ["n"]})
    mapped = job(tmp_path, input={"columns": {"prompt": "prompt", "id": "id"}})
    assert make_plan(mapped).kept == ("prompt",)
    named = job(tmp_path, input=mapped.input.model_dump(), output={"keep": ["id", "prompt"]})
    assert make_plan(named).kept == ("prompt",)
    assert make_plan(job(tmp_path, output={"prefix": "rg_"})).kept == ("prompt", "id")


def test_a_column_called_id_names_the_rows_where_nothing_else_is_said(tmp_path: Path) -> None:
    write_input(tmp_path, "a.parquet", {"prompt": ["a"], "id": [7], "url": ["u"]})
    found = make_plan(job(tmp_path))
    assert (found.columns.id, found.kept) == ("id", ("prompt", "url"))
    columns = {"prompt": "prompt", "id": "url"}
    told = job(tmp_path, input={"columns": columns}, output={"keep": ["url"]})
    assert make_plan(told).columns.id == "url"
    prompt = job(tmp_path, input={"columns": {"prompt": "url"}}, output={"prefix": "rg_"})
    assert make_plan(prompt).columns.id == "id"


def test_a_column_called_id_may_be_missing_in_some_files(tmp_path: Path) -> None:
    write_input(tmp_path, "a.parquet", {"prompt": ["a"], "id": ["x"]})
    write_input(tmp_path, "b.parquet", {"prompt": ["b"]})
    plan = make_plan(job(tmp_path))
    assert plan.columns.id == "id"
    assert [plan.read(plan.shards[0]).values(row)["id"] for row in (0, 1)] == ["x", None]


def test_a_column_called_id_that_can_name_nothing_or_is_the_prompt_does_not(tmp_path: Path) -> None:
    write_input(tmp_path, "a.parquet", {"prompt": ["a"], "id": [[1]]})
    with pytest.raises(InputError, match=r"already has columns named id, .*set output.prefix"):
        make_plan(job(tmp_path))
    assert make_plan(job(tmp_path, output={"keep": []})).columns.id is None
    write_input(tmp_path / "b", "b.parquet", {"id": ["a"]})
    prompts = job(tmp_path / "b", input={"columns": {"prompt": "id"}}, output={"keep": []})
    assert make_plan(prompts).columns.id is None


def test_a_column_called_id_but_for_case_is_no_id_until_it_is_mapped(tmp_path: Path) -> None:
    write_input(tmp_path, "a.parquet", {"prompt": ["a"], "Id": ["n"]})
    with pytest.raises(InputError, match=r"named Id, .*if Id names the rows, input.columns.id: Id"):
        make_plan(job(tmp_path))


@pytest.mark.parametrize("name", ["Completion", "ERROR", "ID", "Sample", "finish_REASON"])
def test_a_column_that_is_called_as_ours_but_for_case_is_refused(tmp_path: Path, name: str) -> None:
    write_input(tmp_path, "a.parquet", {"prompt": ["a"], name: ["n"]})
    told = f"already has columns named {name}, .*as {name.lower()}.*output.prefix.*output.keep"
    with pytest.raises(InputError, match=told):
        make_plan(job(tmp_path))
    assert make_plan(job(tmp_path, output={"keep": ["prompt"]})).kept == ("prompt",)
    assert make_plan(job(tmp_path, output={"prefix": "rg_"})).kept == ("prompt", name)


def test_a_prefix_that_leads_to_a_taken_name_is_refused_whatever_the_case(tmp_path: Path) -> None:
    write_input(tmp_path, "a.parquet", {"prompt": ["a"], "rg_Completion": ["n"]})
    with pytest.raises(InputError, match="named rg_Completion"):
        make_plan(job(tmp_path, output={"prefix": "RG_"}))


def test_kept_columns_that_differ_only_in_case_are_refused(tmp_path: Path) -> None:
    write_input(tmp_path, "a.parquet", {"prompt": ["a"], "Tag": ["x"], "tag": ["y"]})
    with pytest.raises(InputError, match=r"columns twice: Tag and tag; .*output.keep"):
        make_plan(job(tmp_path))
    assert make_plan(job(tmp_path, output={"keep": ["tag"]})).kept == ("tag",)


def test_a_column_called_id_in_capitals_and_mapped_to_it_is_not_kept(tmp_path: Path) -> None:
    write_input(tmp_path, "a.parquet", {"prompt": ["a"], "ID": ["n"]})
    mapped = job(tmp_path, input={"columns": {"prompt": "prompt", "id": "ID"}})
    assert make_plan(mapped).kept == ("prompt",)


def test_partition_columns_are_columns(tmp_path: Path) -> None:
    prompts(tmp_path, 1, "year=2024/a.parquet")
    prompts(tmp_path, 1, "year=2025/a.parquet")
    plan = make_plan(job(tmp_path))
    assert plan.partitions == ("year",)
    assert plan.read(plan.shards[0]).table.column("year").to_pylist() == [2024, 2025]
    used = make_plan(job(tmp_path, input={"template": "{year}"}, output={"keep": []}))
    assert [used.read(used.shards[0]).values(row) for row in (0, 1)] == [
        {"year": "2024"},
        {"year": "2025"},
    ]


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("id=5/data", ("year", "zip")),
        ("id=5/data/year=2024", ("zip",)),
        ("id=5/data/*/zip=01234", ("year", "zip")),
        ("id=5/data/year=2024/*/a.parquet", ("zip",)),
        ("id=5/data/year=2024/zip=01234/a.parquet", ()),
    ],
)
def test_only_folders_below_the_input_path_are_columns(
    tmp_path: Path, path: str, names: tuple[str, ...]
) -> None:
    prompts(tmp_path, 1, "id=5/data/year=2024/zip=01234/a.parquet")
    plan = make_plan(job(tmp_path, f"{tmp_path}/in/{path}"))
    assert plan.partitions == names
    (row,) = plan.read(plan.shards[0]).table.to_pylist()
    values = {"year": 2024, "zip": "01234"}
    assert row == {"prompt": "0", **{name: values[name] for name in names}}


def test_a_partition_that_the_files_have_themselves_is_theirs(tmp_path: Path) -> None:
    write_input(tmp_path, "year=2024/a.parquet", {"prompt": ["a"], "year": ["own"]})
    plan = make_plan(job(tmp_path))
    assert plan.read(plan.shards[0]).table.to_pylist() == [{"prompt": "a", "year": "own"}]


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"promt": ["a"]}, r"no column 'prompt' in the input \(it has promt\); did you mean"),
        ({"prompt": [1]}, r"input.columns.prompt: column 'prompt' holds int64; text is needed"),
        ({"prompt": [["a"]]}, r"column 'prompt' holds list<"),
    ],
)
def test_a_prompt_that_is_missing_or_no_text_is_named(
    tmp_path: Path, columns: dict[str, Any], told: str
) -> None:
    write_input(tmp_path, "a.parquet", columns)
    with pytest.raises(InputError, match=told):
        make_plan(job(tmp_path))


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())],
)
def test_every_type_of_text_is_text(tmp_path: Path, kind: pa.DataType) -> None:
    write_input(tmp_path, "a.parquet", {"prompt": pa.array(["a"]).cast(kind)})
    plan = make_plan(job(tmp_path))
    assert plan.read(plan.shards[0]).table.to_pylist() == [{"prompt": "a"}]


@pytest.mark.parametrize(
    ("sections", "field"),
    [
        ({}, "input.columns.prompt: no column 'prompt'"),
        ({"input": {"columns": {"id": "name"}}}, "input.columns.id: no column 'name'"),
        ({"input": {"template": "{name}"}}, "input.template: no column 'name'"),
    ],
)
def test_a_file_without_a_column_that_the_job_needs_is_named(
    tmp_path: Path, sections: dict[str, Any], field: str
) -> None:
    write_input(tmp_path, "a.parquet", {"prompt": ["a"], "name": ["x"]})
    for name in ("b", "c", "d", "e"):
        write_input(tmp_path, f"{name}.parquet", {"prompts": ["a"]})
    with pytest.raises(InputError) as caught:
        make_plan(job(tmp_path, **sections))
    files = ", ".join(f"{tmp_path}/in/{name}.parquet" for name in ("b", "c", "d"))
    assert f"{field} in {files} and 1 more files (there: prompts)" in str(caught.value)


def test_kept_columns_and_sampling_may_be_missing_in_a_file(tmp_path: Path) -> None:
    write_input(tmp_path, "a.parquet", {"prompt": ["a"], "kept": [1], "options": ["{}"]})
    write_input(tmp_path, "b.parquet", {"prompt": ["b"]})
    write_input(tmp_path, "c.parquet", {"none": pa.array([], pa.string())})
    write_input(tmp_path, "d.parquet", {"prompt": ["d"], "id": ["an id"]})
    columns = {"prompt": "prompt", "sampling": "options"}
    plan = make_plan(job(tmp_path, input={"columns": columns}))
    assert plan.read(plan.shards[0]).table["kept"].to_pylist() == [1, None, None]


def test_bad_files_are_all_named_up_to_five(tmp_path: Path) -> None:
    prompts(tmp_path, 1)
    for number in range(7):
        (tmp_path / "in" / f"bad{number}.parquet").write_bytes(b"")
    with pytest.raises(InputError) as raised:
        make_plan(job(tmp_path))
    lines = str(raised.value).splitlines()
    assert all(f"bad{number}.parquet: corrupt" in lines[number] for number in range(5))
    assert lines[5:] == ["… and 2 more files"]


def test_no_rows_at_all_is_a_mistake_and_some_files_without_are_told(tmp_path: Path) -> None:
    empty = write_input(tmp_path, "b.parquet", {"prompt": pa.array([], pa.string())})
    with pytest.raises(InputError, match="there are no rows in the input"):
        make_plan(job(tmp_path))
    prompts(tmp_path, 1)
    assert make_plan(job(tmp_path)).warnings == (f"{empty} has no rows",)


def test_an_output_among_the_input_is_refused(tmp_path: Path) -> None:
    prompts(tmp_path, 1)
    inside = job(tmp_path, output={"path": f"{tmp_path}/in/out"})
    with pytest.raises(JobError, match=r"output.path: .*/in/out is where input.path .*/in looks"):
        make_plan(inside)


def test_a_plan_comes_back_from_json(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"prompt": "a", "n": {"x": k}}) + "\n" for k in range(3000))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text(lines)
    plan = make_plan(job(tmp_path, output={"keep": ["n"]}))
    back = Plan.from_json(plan.to_json())
    assert back == plan
    assert back.fingerprint == plan.fingerprint
    assert back.files[0].marks == plan.files[0].marks != ()


def test_a_plan_that_knew_no_tools_reads_those_of_a_batch_file(tmp_path: Path) -> None:
    request = {"custom_id": "a", "url": "/v1/completions", "body": {"prompt": "a"}}
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text(json.dumps(request) + "\n")
    facts = json.loads(make_plan(job(tmp_path, input={"format": "openai-batch"})).to_json())
    del facts["columns"]["tools"]
    assert Plan.from_json(json.dumps(facts).encode()).columns.tools == "tools"


def test_a_fingerprint_is_of_job_and_files_not_of_where_they_lie(tmp_path: Path) -> None:
    prompts(tmp_path, 3)
    same = [job(tmp_path), job(tmp_path, name="other", workers={"count": 7})]
    assert len({make_plan(one).fingerprint for one in same}) == 1
    (tmp_path / "in").rename(tmp_path / "moved")
    moved = make_plan(job(tmp_path, path=f"{tmp_path}/moved")).fingerprint
    assert moved == make_plan(job(tmp_path, path=f"{tmp_path}/moved/*.parquet")).fingerprint
    seeded = make_plan(job(tmp_path, path=f"{tmp_path}/moved", sampling={"seed": 1}))
    assert seeded.fingerprint != moved


def test_how_control_tokens_are_read_is_in_the_fingerprint_and_the_default_is_not(
    tmp_path: Path,
) -> None:
    prompts(tmp_path, 3)
    plain = make_plan(job(tmp_path))
    assert plain.job["input"].keys().isdisjoint({"special_tokens", "bos"})
    with_keys = [{"special_tokens": "text"}, {"special_tokens": "parse"}, {"bos": False}]
    others = [make_plan(job(tmp_path, input=keys)) for keys in with_keys]
    assert len({plan.fingerprint for plan in (plain, *others)}) == 4


def test_an_adapter_is_in_the_fingerprint_and_its_absence_is_not(tmp_path: Path) -> None:
    prompts(tmp_path, 3)
    plain = make_plan(job(tmp_path))
    assert plain.job["model"].keys().isdisjoint({"adapter", "base"})
    with_one = make_plan(job(tmp_path, model={"adapter": "gs://models/lora"}))
    assert with_one.job["model"]["adapter"] == "gs://models/lora"
    with_other = make_plan(job(tmp_path, model={"adapter": "gs://models/other"}))
    with_base = make_plan(job(tmp_path, model={"base": "gs://models/base"}))
    plans = (plain, with_one, with_other, with_base)
    assert len({plan.fingerprint for plan in plans}) == 4
