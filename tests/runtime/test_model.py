"""The real model on two CPU workers: the same rows, bit for bit, whoever dies on the way."""

import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rgpipeline import run
from rgpipeline.dispatch.job_view import JobView
from rgpipeline.spec import Job
from rgpipeline.worker.worker_setup import Opened
from tests.runtime.engines import crawl
from tests.runtime.jobs import job_over, prompts, rows_of

pytestmark = pytest.mark.usefixtures("cluster")

GOLDEN = Path(__file__).parents[1] / "golden"
ROWS, TOKENS = 48, 200
BRISK_TOKENS = 4 * (TOKENS + TOKENS // 2)  # of four slots: their second round is half done
REGEX = "[a-z]{60,90}"
WITH_GRAMMAR = range(0, ROWS, 5)


@dataclass(frozen=True)
class Crawling:
    """Opens the job's model; mid way a step takes long, until `hurry` is in `folder`."""

    folder: Path

    def __call__(self, *asked: Any) -> Opened:
        from rgpipeline.engine import factory

        opened = factory.open_engine(*asked)
        (self.folder / f"{os.getpid()}.pid").touch()
        step, written = opened.loop.step, 0

        def slowly() -> Any:
            nonlocal written
            if written >= BRISK_TOKENS:
                crawl(self.folder / "hurry")
            emissions = step()
            written += sum(len(emission.token_ids) for emission in emissions)
            return emissions

        opened.loop.step = slowly
        return opened


def job_in(folder: Path, name: str) -> Job:
    (folder / name).mkdir()
    return job_over(
        folder / name,
        prompts(ROWS),
        own={row: {"structured_outputs": {"regex": REGEX}} for row in WITH_GRAMMAR},
        model={"weights": str(GOLDEN / "a/hf"), "tokenizer": str(GOLDEN / "tokenizer")},
        sampling={"max_tokens": TOKENS, "temperature": 0.9, "seed": 5, "ignore_eos": True},
        engine={"slots": 4, "prefill_chunk": 8, "steps_per_dispatch": 4},
    )


def test_a_killed_worker_changes_no_row(tmp_path: Path) -> None:
    calm, rough = job_in(tmp_path, "calm"), job_in(tmp_path, "rough")
    assert run(calm).outcome == "finished"
    seen: list[JobView] = []

    def kill_one_mid_way(view: JobView) -> None:
        seen.append(view)
        begun = [worker for worker in view.workers if worker.completion_tokens >= 4 * TOKENS]
        if len(begun) == 2 and not (tmp_path / "hurry").exists():
            victim = next(tmp_path.glob("*.pid"))
            os.kill(int(victim.stem), signal.SIGKILL)
            (tmp_path / "hurry").touch()

    crawling = Crawling(tmp_path)
    assert run(rough, open_engine=crawling, watch=kill_one_mid_way).outcome == "finished"
    assert seen[-1].deaths == 1
    rows = rows_of(rough)
    assert rows == rows_of(calm)
    ended = [row["completion"] for row in rows if row["finish_reason"] == "stop"]
    assert len(ended) == len(WITH_GRAMMAR)
    assert all(re.fullmatch(REGEX, text) for text in ended)
