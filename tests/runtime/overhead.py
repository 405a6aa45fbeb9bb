"""`python -m tests.runtime.overhead`: how busy many workers are kept on few cores.

Every worker's engine takes 50 ms a block, asleep, as an accelerator would be waited for. What is
left of 100 % went to the driver, to Ray and to the workers' own Python.
"""

import argparse
import os
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import ray

from rgpipeline import run
from rgpipeline.engine.features import SamplingFeatures
from rgpipeline.engine.loop import Loop
from rgpipeline.records import EngineSettings
from tests.fake_engine import FakeBlock, FakeEngine, FakeState
from tests.runtime.conftest import ROOT
from tests.runtime.engines import Opened
from tests.runtime.jobs import job_over, prompts

_NOTE_EVERY = 20  # blocks


class TimedEngine(FakeEngine):
    """Sleeps for each block, and notes when which block ended."""

    def __init__(self, slots: int, block_s: float, notes: Path) -> None:
        super().__init__(slots=slots)
        self._block_s = block_s
        self._notes = notes.open("a")
        self._blocks = 0

    def decode(self, state: FakeState, features: SamplingFeatures) -> tuple[FakeState, FakeBlock]:
        time.sleep(self._block_s)
        self._blocks += 1
        if self._blocks % _NOTE_EVERY == 0:
            print(time.time(), self._blocks, file=self._notes, flush=True)
        return super().decode(state, features)


@dataclass(frozen=True)
class Timed:
    """Opens timed engines."""

    folder: Path
    block_s: float
    slots: int

    def __call__(self, *_: Any) -> Opened:
        notes = self.folder / f"{os.getpid()}.notes"
        loop = Loop(TimedEngine(self.slots, self.block_s, notes))
        return Opened(loop, EngineSettings("float32", self.slots, 4, 3))


def measure(workers: int, seconds: float, slots: int, block_s: float) -> None:
    blocks_a_row = 7  # of 3 tokens, about: what prompts of these lengths take
    rows = int(workers * slots * seconds / (block_s * blocks_a_row))
    os.environ["PYTHONPATH"] = str(ROOT)
    ray.init(
        address="local", num_cpus=workers, include_dashboard=False,
        object_store_memory=100 << 20, log_to_driver=False, logging_level="ERROR",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        section = {"accelerator": "cpu", "count": workers, "chips": 1}
        job = job_over(folder, prompts(rows), workers=section)
        used: dict[str, float] = {}
        engine = Timed(folder, block_s, slots)
        summary = run(job, open_engine=engine, watch=lambda _: used.update(_cpu_seconds()))
        notes = [
            [(float(t), int(n)) for t, n in (line.split() for line in file.open())]
            for file in folder.glob("*.notes")
        ]
    ray.shutdown()
    begin = max(worker[0][0] for worker in notes)
    end = min(worker[-1][0] for worker in notes)
    shares = [_busy(worker, begin, end, block_s) for worker in notes]
    print(f"{len(notes)} workers, {rows:,} rows, {summary.outcome} in {summary.seconds:.0f} s")
    print(f"all at work for {end - begin:.0f} s: busy {sum(shares) / len(shares):.1%}")
    print(f"least busy {min(shares):.1%}")
    for name, spent in sorted(used.items()):
        print(f"  {spent / summary.seconds:6.1%} of a core  {name}")


def _cpu_seconds() -> dict[str, float]:
    """What this process and its children have used of the processors, by kind."""
    used: dict[str, float] = defaultdict(float)
    ours = psutil.Process()
    for process in [ours, *ours.children(recursive=True)]:
        with suppress(psutil.Error):
            title = " ".join(process.cmdline())
            times = process.cpu_times()
            used["driver" if process == ours else _kind(title)] += times.user + times.system
    return used


def _kind(title: str) -> str:
    return "workers" if "WorkerActor" in title else "the rest of Ray"


def _busy(notes: list[tuple[float, int]], begin: float, end: float, block_s: float) -> float:
    inside = [(when, blocks) for when, blocks in notes if begin <= when <= end]
    (first, few), (last, many) = inside[0], inside[-1]
    return (many - few) * block_s / (last - first)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.runtime.overhead", description=__doc__)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--block", type=float, default=0.05, help="seconds")
    asked = parser.parse_args()
    measure(asked.workers, asked.seconds, asked.slots, asked.block)
