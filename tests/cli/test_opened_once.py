"""A command opens an output folder once: one store, one listing of parts, each footer read once."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rgpipeline.cli.app import call
from rgpipeline.output.retry_job import prepare_retry
from rgpipeline.storage.store import RetryingStore
from tests.published import done, failed, job_over, publish

PARTS = 3


@pytest.fixture
def output(tmp_path: Path) -> str:
    """A finished job of three shards, one part each; a quarter of the rows has failed."""
    rows = [{"prompt": f"p{i}"} for i in range(40)]
    job = job_over(tmp_path, rows)
    answers = [failed("f"), done("a"), done("b"), done("c")]
    return publish(job, lambda number, _: [answers[number % 4]])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a store was opened, listed and read, by what was asked of it."""
    counted: Counter[str] = Counter()

    def count(method: str, named: Callable[..., str]) -> None:
        original = getattr(RetryingStore, method)

        def counting(self: RetryingStore, *args: Any) -> Any:
            counted[named(*args)] += 1
            return original(self, *args)

        monkeypatch.setattr(RetryingStore, method, counting)

    count("__init__", lambda *_: "opened")
    count("list", lambda prefix="": f"list {prefix}")
    count("read", lambda name: f"read {name}")
    count("read_tail", lambda name, length: f"footer {name}")
    return counted


@pytest.mark.parametrize(
    ("arguments", "footers"),
    [(["status"], 1), (["report", "--to", "report.html"], 1), (["cat"], 1), (["stop"], 0)],
    ids=["status", "report", "cat", "stop"],
)
def test_a_command_opens_the_folder_once(
    output: str,
    calls: Counter[str],
    arguments: list[str],
    footers: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    command, *options = arguments
    assert call([command, output, *options]) == 0
    assert calls["opened"] == 1
    assert calls["read _rgp/job.json"] == calls["read _rgp/plan.json"] == 1
    assert calls["list part-"] == footers
    assert footers_read(calls) == [1] * footers * PARTS


def test_a_retry_opens_the_folder_once(output: str, calls: Counter[str], tmp_path: Path) -> None:
    assert prepare_retry(output, str(tmp_path / "again")) is not None
    assert calls["opened"] == 2  # the folder, and the new one
    assert calls["list part-"] == 1
    assert footers_read(calls) == [1] * PARTS


def footers_read(calls: Counter[str]) -> list[int]:
    """How often the footer of each part was read."""
    return [times for name, times in calls.items() if name.startswith("footer")]
