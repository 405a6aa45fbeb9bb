"""Every mistake is answered by one message: what, where, what to do. Never by a traceback."""

import itertools
from pathlib import Path

import pytest

from rgpipeline.cli.app import call
from tests.cli.mistakes import commands, inputs, job_file, models, outputs
from tests.cli.mistakes.case import Bench, Mistake

TABLES = {
    "job": job_file.CASES,
    "input": inputs.CASES,
    "model": models.CASES,
    "output": outputs.CASES,
    "command": commands.CASES,
}
CASES = [
    pytest.param(mistake, id=f"{subject}: {mistake.name}")
    for subject, mistakes in TABLES.items()
    for mistake in mistakes
]
MOST_LINES = 8


@pytest.mark.parametrize("mistake", CASES)
def test_mistake_is_told(
    mistake: Mistake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    bench = Bench(tmp_path)
    mistake.make(bench)
    bench.save()
    code = call(mistake.command)
    message = capsys.readouterr().err
    assert (code, message.startswith("error: ")) == (mistake.code, True), message
    assert not [words for words in mistake.says if words not in message], message
    assert "Traceback" not in message
    assert len(message.splitlines()) <= MOST_LINES, message


def test_there_are_at_least_eighty() -> None:
    assert len(CASES) >= 80


def test_no_two_cases_have_one_name() -> None:
    names = sorted(str(case.id) for case in CASES)
    assert [a for a, b in itertools.pairwise(names) if a == b] == []
