"""Every mistake is answered by one message: what, where, what to do. Never by a traceback."""

import itertools
from pathlib import Path

import pytest

from rgpipeline.cli.app import call
from tests.cli.mistakes import commands, inputs, job_file, models, outputs, stores
from tests.cli.mistakes.case import Bench, Mistake
from tests.storage.seaweed import Seaweed
from tests.storage.servers import Place

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


def assert_told(mistake: Mistake, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    mistake.make(bench)
    bench.save()
    code = call(mistake.command)
    message = capsys.readouterr().err
    assert (code, message.startswith("error: ")) == (mistake.code, True), message
    assert not [words for words in mistake.says if words not in message], message
    assert "Traceback" not in message
    assert len(message.splitlines()) <= MOST_LINES, message


@pytest.mark.parametrize("mistake", CASES)
def test_mistake_is_told(
    mistake: Mistake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    bench = Bench(tmp_path)
    assert_told(mistake, bench, capsys)


@pytest.mark.parametrize("index", range(3), ids=["input", "output", "weights"])
def test_a_bucket_that_is_not_there(
    index: int,
    moto_server: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    mistake = stores.no_bucket(moto_server.storage_options)[index]
    assert_told(mistake, Bench(tmp_path), capsys)


@pytest.mark.parametrize("index", range(3), ids=["input", "output", "weights"])
def test_credentials_that_nobody_knows(
    index: int,
    seaweed_server: Seaweed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RGP_TEST_SECRET", "guessed")
    url = seaweed_server.url("strangers")
    mistake = stores.no_rights(url, seaweed_server.storage_options)[index]
    assert_told(mistake, Bench(tmp_path), capsys)


def test_there_are_at_least_eighty() -> None:
    assert len(CASES) >= 80


def test_no_two_cases_have_one_name() -> None:
    names = sorted(str(case.id) for case in CASES)
    assert [a for a, b in itertools.pairwise(names) if a == b] == []
