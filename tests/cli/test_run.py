"""`run`: what is printed where, and with which code it ends. The runtime is played."""

import json
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rgpipeline.cli.app import call
from rgpipeline.output.job_status import Summary
from rgpipeline.spec import Job
from tests.cli.mistakes.case import Bench
from tests.published import done, job_over, publish

Captured = pytest.CaptureFixture[str]
FINISHED = Summary("finished", 0, "", 4, 4, 0, 8, 12, 2.0, 6.0, 12, "out")


class Runtime(ModuleType):
    """Stands in for `rgpipeline.runtime`: remembers what it was asked and answers `summary`."""

    def __init__(self) -> None:
        super().__init__("rgpipeline.runtime")
        self.summary = FINISHED
        self.asked: dict[str, Any] = {}

    def run(
        self, job: Job, *, address: str, watch: Callable[..., None], stop: threading.Event
    ) -> Summary:
        self.asked = {"job": job, "address": address}
        return self.summary


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    played = Runtime()
    monkeypatch.setitem(sys.modules, "rgpipeline.runtime", played)
    monkeypatch.chdir(tmp_path)
    Bench(tmp_path).save()
    return played


def ended(outcome: str, code: int, **fields: Any) -> Summary:
    return replace(FINISHED, outcome=outcome, exit_code=code, **fields)


@pytest.mark.parametrize(
    ("summary", "told"),
    [
        (ended("finished", 0), "Finished in 2 s."),
        (ended("finished", 3, rows_done=3, rows_failed=1), "rgpipeline retry out --output NEW"),
        (ended("failed", 1, message="the disk is full"), "Failed: the disk is full"),
        (ended("failed", 2, message="no such weights"), "Failed: no such weights"),
        (ended("interrupted", 130, rows_done=1), "the same command resumes it"),
        (ended("finished", 0, already_done=True), "All 4 rows are done already"),
    ],
)
def test_the_end_is_told(runtime: Runtime, summary: Summary, told: str, capsys: Captured) -> None:
    runtime.summary = summary
    assert call(["run", "job.yaml"]) == summary.exit_code
    assert told in capsys.readouterr().out


def test_the_summary_says_rows_tokens_speed_and_place(runtime: Runtime, capsys: Captured) -> None:
    call(["run", "job.yaml"])
    told = capsys.readouterr().out
    for part in ("4 done, 0 failed", "12 generated, 8 of prompts", "6.0 tok/s", "output   out"):
        assert part in told


def test_json_is_alone_on_stdout(runtime: Runtime, capsys: Captured) -> None:
    call(["run", "job.yaml", "--json"])
    assert json.loads(capsys.readouterr().out) == asdict(FINISHED)


def test_overrides_and_address_are_handed_on(runtime: Runtime) -> None:
    call(["run", "job.yaml", "--set", "sampling.seed=7", "--address", "ray://x:1"])
    assert runtime.asked["job"].sampling.seed == 7
    assert runtime.asked["address"] == "ray://x:1"


def test_samples_are_shown_with_their_prompts(
    runtime: Runtime, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "other").mkdir()
    job = job_over(tmp_path / "other", [{"prompt": "In the beginning"}])
    publish(job, lambda number, row: [done("a", " there was light.")])
    call(["run", "job.yaml", "--samples", "3", "--set", f"output.path={job.output.path}"])
    assert "  a\n  In the beginning there was light.\n" in capsys.readouterr().out


def test_nobody_who_pipes_gets_samples_or_colours(runtime: Runtime, capsys: Captured) -> None:
    call(["run", "job.yaml", "--set", "output.path=nowhere"])
    assert "\x1b" not in capsys.readouterr().out


def test_a_dry_run_runs_nothing_and_makes_nothing(
    runtime: Runtime, tmp_path: Path, capsys: Captured
) -> None:
    assert call(["run", "job.yaml", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "2 rows in 1 file" in told
    assert "output   out: new" in told
    assert runtime.asked == {}
    assert not (tmp_path / "out").exists()


def test_a_dry_run_as_json(runtime: Runtime, capsys: Captured) -> None:
    assert call(["run", "job.yaml", "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rows"] == {"total": 2, "finished": 0}
    assert told["shards"] == 1


def test_validate_json(runtime: Runtime, capsys: Captured) -> None:
    assert call(["validate", "job.yaml", "--json", "--set", "engine.slots=2"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "valid": True,
        "faults": [],
        "warnings": [],
        "rows": 2,
        "files": 1,
        "shards": 1,
    }


def test_validate_and_a_dry_run_say_that_a_column_called_id_names_the_rows(
    tmp_path: Path, runtime: Runtime, capsys: Captured
) -> None:
    pq.write_table(pa.table({"prompt": ["x"], "id": ["a"]}), "prompts.parquet")
    call(["validate", "job.yaml"])
    assert "valid: 1 row in 1 file, 1 shard; the column 'id' names the rows\n" in (
        capsys.readouterr().out
    )
    call(["run", "job.yaml", "--dry-run"])
    assert "the column 'id' names the rows\n" in capsys.readouterr().out


def test_validate_warns_of_ids_that_several_rows_have(runtime: Runtime, capsys: Captured) -> None:
    pq.write_table(pa.table({"prompt": ["x", "y"], "id": ["a", "a"]}), "prompts.parquet")
    assert call(["validate", "job.yaml"]) == 0
    told = capsys.readouterr().err
    assert "warning: 1 of all 2 rows have an id that an earlier row has: 'a' " in told


def test_validate_warns_of_prompts_that_were_templated_already(
    runtime: Runtime, capsys: Captured
) -> None:
    pq.write_table(pa.table({"prompt": ["x", "<bos>y"]}), "prompts.parquet")
    assert call(["validate", "job.yaml"]) == 0
    told = capsys.readouterr().err
    assert "warning: 1 of all 2 rows have a prompt that looks as if a chat template" in told
    assert call(["validate", "job.yaml", "--set", "input.special_tokens=text"]) == 0
    assert "chat template" not in capsys.readouterr().err


def test_the_summary_tells_what_it_warns_of(runtime: Runtime, capsys: Captured) -> None:
    runtime.summary = ended("finished", 0, warning="1 of all 2 rows have an id …")
    call(["run", "job.yaml"])
    assert "warning  1 of all 2 rows have an id …" in capsys.readouterr().out


def test_validate_warns_of_rows_that_would_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    bench = Bench(tmp_path).set("engine.slots", 1)
    bench.parquet("prompts.parquet", {"prompt": [*["x"] * 99, None]})
    bench.save()
    assert call(["validate", "job.yaml"]) == 0
    assert capsys.readouterr().err == (
        "warning: 1 of all 100 rows would fail (rows are counted from 0):\n"
        "  prompts.parquet, row 99: 'prompt' is null\n"
    )


def test_validate_warns_of_a_stop_string_that_is_never_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    bench = Bench(tmp_path).set("sampling.stop", ["done<eos>", "<eos>"])
    bench.save()
    assert call(["validate", "job.yaml"]) == 0
    assert "sampling.stop: 'done<eos>' never ends a completion" in capsys.readouterr().err


def test_validate_warns_of_more_slots_than_rows(runtime: Runtime, capsys: Captured) -> None:
    assert call(["validate", "job.yaml"]) == 0
    told = capsys.readouterr().err
    assert "the job has 2 sequences" in told
    assert "engine.slots: 2 is faster" in told
