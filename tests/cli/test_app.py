"""The command line as a whole: help, exit codes, failures as a person sees them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rgpipeline import __version__
from rgpipeline.cli.app import COMMANDS, call
from rgpipeline.cli.exits import guarded
from rgpipeline.errors import (
    InputError,
    Interrupted,
    RowError,
    StoreError,
    UserError,
    WorkerError,
)

Captured = pytest.CaptureFixture[str]


def raising(error: BaseException) -> int:
    def action() -> int:
        raise error

    return guarded(action, lambda: False)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("x"), 2),
        (InputError("x"), 2),
        (StoreError("x"), 1),
        (WorkerError("x"), 1),
        (RowError("x"), 1),
        (Interrupted("x"), 130),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("x"), 1),
    ],
)
def test_exit_codes(error: BaseException, code: int) -> None:
    assert raising(error) == code


def test_an_error_of_ours_is_its_message_on_stderr(capsys: Captured) -> None:
    raising(InputError("a.parquet: no such file"))
    assert capsys.readouterr() == ("", "error: a.parquet: no such file\n")


def test_an_unforeseen_error_names_the_file_with_its_traceback(capsys: Captured) -> None:
    raising(ZeroDivisionError("by nought"))
    told = capsys.readouterr().err
    assert told.startswith("error: ZeroDivisionError: by nought\nThis is a bug")
    log = re.search(r"traceback is in (\S+)", told)
    assert log is not None
    assert "in action" in Path(log[1]).read_text()


def test_debug_shows_the_traceback(capsys: Captured) -> None:
    assert call(["--debug", "run", "nope.yaml"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_no_arguments_is_help(capsys: Captured) -> None:
    assert call([]) == 0
    told = capsys.readouterr().out
    assert all(f"\n  {command.__name__} " in told for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_every_commands_help_has_an_example(command: object, capsys: Captured) -> None:
    name = getattr(command, "__name__", "")
    assert call([name, "--help"]) == 0
    assert f"    rgpipeline {name} " in capsys.readouterr().out.replace('echo "Blessed are" | ', "")


def test_version(capsys: Captured) -> None:
    assert call(["--version"]) == 0
    assert capsys.readouterr().out == f"rgpipeline {__version__}\n"


def test_completion_knows_the_commands() -> None:
    asked = {
        "_RGPIPELINE_COMPLETE": "complete_bash",
        "COMP_WORDS": "rgpipeline st",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [Path(sys.executable).with_name("rgpipeline")],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["status", "stop"]


def test_an_interrupted_command_says_so(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rgpipeline.output.JobFolder.open", interrupted)
    assert call(["status", "out"]) == 130
    assert capsys.readouterr().err == "\nInterrupted.\n"


def test_a_reader_that_goes_away_is_no_failure(tmp_path: Path) -> None:
    done = subprocess.run(
        f"set -o pipefail; {Path(sys.executable).with_name('rgpipeline')} --help | true",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


_LEAVING = """
import atexit, sys
from rgpipeline.cli import main

class Finalized:
    def __del__(self):
        print("finalized")

kept = Finalized()
sys.modules["early"] = kept
try:
    main(sys.argv[1:])
finally:
    atexit.register(print, "handlers")
"""


@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["nosuch"], 2)])
def test_the_program_ends_before_pythons_finalization(arguments: list[str], code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LEAVING, *arguments], capture_output=True, text=True
    )
    assert done.returncode == code
    assert "handlers" in done.stdout
    assert "finalized" not in done.stdout
