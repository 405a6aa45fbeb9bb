"""Commands say what they have to whatever stdout is, and JSON is JSON."""

import errno
import io
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from rgpipeline.cli.app import call
from rgpipeline.cli.cat_command import json_line
from rgpipeline.storage.backends import LocalStore
from tests.published import done, job_over, publish

TEXT = "«naïve» 語 →"


@pytest.fixture
def output(tmp_path: Path) -> str:
    job = job_over(tmp_path, [{"prompt": "Mühlen →", "n": 0}])
    return publish(job, lambda *_: [done("é", TEXT)])


COMMANDS = [["status"], ["cat"], ["cat", "--format", "jsonl"], ["cat", "--format", "openai-batch"]]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_command_fails_for_what_stdout_can_not_show(
    output: str, encoding: str, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding, write_through=True))
    assert call([command[0], output, *command[1:]]) == 0
    if "jsonl" in command:
        assert json.loads(raw.getvalue().decode(encoding))["completion"] == TEXT


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}])
def test_a_run_is_told_on_a_stdout_of_ascii(tmp_path: Path, environment: dict[str, str]) -> None:
    job = job_over(tmp_path, [{"prompt": "→"}])
    publish(job, lambda *_: [done("é")])
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job.model_dump(mode="json")))
    told = subprocess.run(
        [sys.executable, "-m", "rgpipeline", "run", str(tmp_path / "job.yaml")],
        capture_output=True,
        env={**os.environ, **environment},
        check=True,
    )
    assert b"is done already" in told.stdout or b"are done already" in told.stdout


def test_a_closed_stdout_is_no_error(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert call(["status", output]) == 0


def test_a_disk_that_fills_up_under_stdout_is_told(
    output: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    full = Path("/dev/full").open("w")  # noqa: SIM115 - closing it fails
    monkeypatch.setattr(sys, "stdout", full)
    assert call(["cat", output]) == 1
    with suppress(OSError):
        full.close()
    assert "no space is left" in capsys.readouterr().err


def test_a_finished_job_on_a_read_only_disk_is_done_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = job_over(tmp_path, [{"prompt": "a"}])
    publish(job, lambda *_: [done("a")], success=False)
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job.model_dump(mode="json")))

    def refuse(*_: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for name in ("create", "replace", "delete"):
        monkeypatch.setattr(LocalStore, name, refuse)
    assert call(["run", str(tmp_path / "job.yaml")]) == 0
    assert "done already" in capsys.readouterr().out


def test_a_python_that_lacks_our_packages_is_told_in_one_message() -> None:
    command = [sys.executable, "-S", "-m", "rgpipeline", "status", "out"]  # -S: no site-packages
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 2
    assert told.stderr.startswith(f"error: {sys.executable} lacks the package 'typer'")
    assert len(told.stderr.splitlines()) == 1


def strict(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


def test_json_has_null_for_what_is_no_number_and_base64_for_bytes() -> None:
    inf = float("inf")
    value = {"a": [float("nan"), 1.5, {"b": -inf}], "c": b"\xff", "d": "é", "e": 2**63}
    assert strict(json_line(value)) == {
        "a": [None, 1.5, {"b": None}],
        "c": "/w==",
        "d": "é",
        "e": 2**63,
    }


def test_cat_writes_strict_json_of_any_kept_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": "p", "f": float("nan"), "b": b"\x00\xff", "l": [float("-inf")]}]
    url = publish(job_over(tmp_path, rows), lambda *_: [done("a")])
    assert call(["cat", url, "--format", "jsonl"]) == 0
    found = strict(capsys.readouterr().out)
    assert (found["f"], found["b"], found["l"]) == (None, "AP8=", [None])
