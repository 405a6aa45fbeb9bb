"""The commands that read an output: status, stop, cat."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rgpipeline.cli.app import call
from rgpipeline.output import Heartbeat, write_heartbeat
from rgpipeline.records import OutputRow
from rgpipeline.storage.store import open_store
from tests.published import done, failed, job_over, publish

Captured = pytest.CaptureFixture[str]
BEGUN = Path(__file__).parent.parent / "golden" / "begun"
ROWS = [{"name": f"n{i}", "prompt": f"text {i}"} for i in range(4)]
COLUMNS = {"columns": {"prompt": "prompt", "id": "name"}}


def answer(number: int, row: Mapping[str, Any]) -> Sequence[OutputRow]:
    return [failed("n2") if number == 2 else done(row["name"], f"answer {number}")]


@pytest.fixture
def output(tmp_path: Path) -> str:
    return publish(job_over(tmp_path, ROWS, input=COLUMNS), answer)


def printed(capsys: Captured, *command: str) -> str:
    assert call(command) == 0
    return capsys.readouterr().out


def test_status_in_words(output: str, capsys: Captured) -> None:
    told = printed(capsys, "status", output)
    assert told.startswith(f"{output}: finished\n")
    assert "rows     4 of 4 (100%), 1 failed" in told
    assert "tokens   9 generated, 6 of prompts" in told


def test_status_and_report_of_a_score_job_say_scored(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = str(BEGUN / "score")
    assert "tokens   175 scored, " in printed(capsys, "status", url)
    printed(capsys, "report", url)
    page = (tmp_path / "report.html").read_text()
    assert "tokens scored" in page
    assert "Tokens scored a second" in page
    assert "generated" not in page


def test_status_json_is_what_the_documentation_says(output: str, capsys: Captured) -> None:
    assert json.loads(printed(capsys, "status", output, "--json")) == {
        "state": "finished",
        "rows": {"total": 4, "done": 3, "failed": 1},
        "tokens": {"prompt": 6, "completion": 9},
        "shards": {"total": 1, "finished": 1},
        "workers": 0,
        "tokens_per_second": 0.0,
        "eta_seconds": None,
        "updated": None,
        "warnings": [],
    }


def test_status_watches_to_the_end(output: str, capsys: Captured) -> None:
    assert printed(capsys, "status", output, "--watch", "60").count("finished") == 1


def test_status_of_a_running_job(tmp_path: Path, capsys: Captured) -> None:
    job = job_over(tmp_path, ROWS, input=COLUMNS)
    url = publish(job, answer, success=False)
    details = {
        "waiting_for": "room for 3 more",
        "warnings": ["b.parquet has no rows"],
        "eta_at_most": True,
    }
    beat = Heartbeat("running", 4e9, 2, tokens_per_second=1234.5, eta_seconds=90.0, details=details)
    write_heartbeat(open_store(url), beat)
    told = printed(capsys, "status", url)
    assert "waiting  for room for 3 more" in told
    assert "warning  b.parquet has no rows" in told
    assert "workers  2, 1,234 tok/s" in told
    assert "left     at most 1 min 30 s" in told


def test_status_of_a_failed_job_says_why(tmp_path: Path, capsys: Captured) -> None:
    url = publish(job_over(tmp_path, ROWS, input=COLUMNS), answer, success=False)
    write_heartbeat(open_store(url), Heartbeat("failed", 1.0, details={"message": "no room"}))
    assert "reason   no room" in printed(capsys, "status", url)


def test_stop_asks_a_running_job(tmp_path: Path, capsys: Captured) -> None:
    url = publish(job_over(tmp_path, ROWS, input=COLUMNS), answer, success=False)
    write_heartbeat(open_store(url), Heartbeat("running", 4e9))
    assert "asked to stop" in printed(capsys, "stop", url)
    assert open_store(url).exists("_rgp/stop")


def test_a_damaged_part_keeps_nobody_from_stopping(tmp_path: Path, capsys: Captured) -> None:
    url = publish(job_over(tmp_path, ROWS, input=COLUMNS), answer, success=False)
    (tmp_path / "out" / "part-00000-0000.parquet").write_bytes(b"")
    write_heartbeat(open_store(url), Heartbeat("running", 4e9))
    assert "asked to stop" in printed(capsys, "stop", url)


def test_stop_says_when_there_is_nothing_to_stop(output: str, capsys: Captured) -> None:
    assert "nothing to stop" in printed(capsys, "stop", output)


def test_cat_shows_texts_and_errors(output: str, capsys: Captured) -> None:
    told = printed(capsys, "cat", output)
    assert "== n0 (3 tokens, stop)\nanswer 0\n" in told
    assert "== n2 (0 tokens, error)\nerror: 'prompt' is null\n" in told


def test_cat_of_one_row(output: str, capsys: Captured) -> None:
    assert printed(capsys, "cat", output, "--id", "n3") == "== n3 (3 tokens, stop)\nanswer 3\n\n"


def test_cat_as_json_lines_carries_the_input_along(output: str, capsys: Captured) -> None:
    first = json.loads(printed(capsys, "cat", output, "--format", "jsonl").splitlines()[0])
    assert first == {
        "name": "n0",
        "prompt": "text 0",
        "id": "n0",
        "sample": 0,
        "completion": "answer 0",
        "finish_reason": "stop",
        "prompt_tokens": 2,
        "completion_tokens": 3,
        "error": None,
    }


def test_json_lines_keep_what_the_input_calls_as_we_do(tmp_path: Path, capsys: Captured) -> None:
    rows = [{"name": "n0", "prompt": "text", "completion": "theirs"}]
    job = job_over(tmp_path, rows, input=COLUMNS, output={"prefix": "rg_"})
    first = json.loads(printed(capsys, "cat", publish(job, answer), "--format", "jsonl"))
    assert (first["completion"], first["rg_completion"]) == ("theirs", "answer 0")


def test_cat_joins_segments(tmp_path: Path, capsys: Captured) -> None:
    def long(number: int, row: Mapping[str, Any]) -> Sequence[OutputRow]:
        first = done("n", "once upon", finish_reason=None)
        return [first, replace(done("n", " a time"), segment=1, prompt_tokens=0)]

    url = publish(job_over(tmp_path, ROWS[:1], input=COLUMNS), long)
    assert "== n (6 tokens, stop)\nonce upon a time\n" in printed(capsys, "cat", url)


def test_cat_as_batch_answers_a_row_with_all_its_samples(tmp_path: Path, capsys: Captured) -> None:
    def samples(number: int, row: Mapping[str, Any]) -> Sequence[OutputRow]:
        return [done(row["name"], f"s{i}", sample=i, samples=2) for i in (1, 0)]

    url = publish(job_over(tmp_path, ROWS[:1], input=COLUMNS, sampling={"n": 2}), samples)
    (line,) = printed(capsys, "cat", url, "--format", "openai-batch").splitlines()
    answer = json.loads(line)
    assert answer["custom_id"] == "n0"
    assert answer["response"]["status_code"] == 200
    body = answer["response"]["body"]
    assert [(c["index"], c["text"], c["finish_reason"]) for c in body["choices"]] == [
        (0, "s0", "stop"),
        (1, "s1", "stop"),
    ]
    assert body["usage"] == {"prompt_tokens": 2, "completion_tokens": 6, "total_tokens": 8}


def test_cat_as_batch_answers_a_failed_row_with_its_error(output: str, capsys: Captured) -> None:
    lines = printed(capsys, "cat", output, "--format", "openai-batch").splitlines()
    refused = json.loads(lines[2])["response"]
    assert refused["status_code"] == 400
    assert refused["body"]["error"]["message"] == "'prompt' is null"
