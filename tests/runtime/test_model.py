"""The real model on two CPU workers: the same rows, bit for bit, whoever dies on the way."""

from pathlib import Path

import psutil
import pytest

from rgpipeline import run
from rgpipeline.dispatch.view import JobView
from rgpipeline.spec import Job
from tests.runtime.jobs import job_over, prompts, rows_of

pytestmark = pytest.mark.usefixtures("cluster")

GOLDEN = Path(__file__).parents[1] / "golden"
ROWS, TOKENS = 96, 600


def job_in(folder: Path, name: str) -> Job:
    (folder / name).mkdir()
    return job_over(
        folder / name,
        prompts(ROWS),
        model={"weights": str(GOLDEN / "a2/hf"), "tokenizer": str(GOLDEN / "tokenizer")},
        sampling={"max_tokens": TOKENS, "temperature": 0.9, "seed": 5, "ignore_eos": True},
        engine={"slots": 8, "prefill_chunk": 8, "steps_per_dispatch": 4},
    )


def kill_one_worker_mid_way(view: JobView) -> None:
    """SIGKILLs a worker's process, once some of the work is done and most is not."""
    begun = 0 < view.completion_tokens < ROWS * TOKENS // 2
    if view.deaths == 0 and begun and len(view.workers) == 2:
        ours = psutil.Process().children(recursive=True)
        actors = [process for process in ours if "WorkerActor" in "".join(process.cmdline())]
        actors[0].kill()


def test_a_killed_worker_changes_no_row(tmp_path: Path) -> None:
    calm, rough = job_in(tmp_path, "calm"), job_in(tmp_path, "rough")
    assert run(calm).outcome == "finished"
    seen: list[JobView] = []

    def watch(view: JobView) -> None:
        seen.append(view)
        kill_one_worker_mid_way(view)

    assert run(rough, watch=watch).outcome == "finished"
    assert seen[-1].deaths == 1
    assert rows_of(rough) == rows_of(calm)
