"""`python -m tests.runtime.overhead`: how busy many devices are kept by few cores.

Each worker has a device of its own (see `device`), which takes 50 ms a block; the processors are
shared by all workers, the driver and Ray. A device is busy while it has a block: what it lacks to
100 % is time in which its host was not there to hand over the next one.
"""

import argparse
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import ray

from rgpipeline import run
from rgpipeline.dispatch.job_view import JobView
from tests.runtime.conftest import ROOT
from tests.runtime.device import Devices, Note
from tests.runtime.jobs import job_over, prompts

_BLOCKS_A_ROW = 7  # of 3 tokens, about: what prompts of these lengths take
_SAMPLE_S = 5.0


def measure(workers: int, seconds: float, slots: int, block_s: float) -> None:
    rows = int(workers * slots * seconds / (block_s * _BLOCKS_A_ROW))
    os.environ["PYTHONPATH"] = str(ROOT)
    ray.init(
        address="local", num_cpus=workers, include_dashboard=False,
        object_store_memory=100 << 20, log_to_driver=False, logging_level="ERROR",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        section = {"accelerator": "cpu", "count": workers, "chips": 1}
        job = job_over(folder, prompts(rows), workers=section)
        devices, processors = Devices(folder, workers, slots, block_s), Processors()
        summary = run(job, open_engine=devices, watch=processors.sample)
        notes = devices.notes()
    ray.shutdown()
    print(f"{workers} workers of {slots} slots: {rows:,} rows, {summary.outcome}")
    begin, end = max(first.at for first, *_ in notes), min(last.at for *_, last in notes)
    inside = [[note for note in device if begin <= note.at <= end] for device in notes]
    busy = [_blocks(device) * block_s / (device[-1].at - device[0].at) for device in inside]
    in_use = sum(device[-1].slots - device[0].slots for device in inside)
    print(f"all at work for {end - begin:.0f} s: devices busy {sum(busy) / len(busy):.1%}")
    print(f"  the least busy {min(busy):.1%}")
    print(f"  slots in use {in_use / slots / sum(map(_blocks, inside)):.1%}")
    for kind, share in sorted(processors.shares(begin, end).items()):
        print(f"  {share:6.1%} of a core  {kind}")


def _blocks(notes: Sequence[Note]) -> int:
    return notes[-1].blocks - notes[0].blocks


class Processors:
    """Who uses them, looked at now and then."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, dict[str, float]]] = [(time.monotonic(), {})]

    def sample(self, _: JobView) -> None:
        """Notes what this process and its children have used so far."""
        if time.monotonic() - self._samples[-1][0] < _SAMPLE_S:
            return
        used: dict[str, float] = defaultdict(float)
        ours = psutil.Process()
        for process in [ours, *ours.children(recursive=True)]:
            with suppress(psutil.Error):
                kind = "driver" if process == ours else _kind(" ".join(process.cmdline()))
                times = process.cpu_times()
                used[kind] += times.user + times.system
        self._samples.append((time.monotonic(), used))

    def shares(self, begin: float, end: float) -> dict[str, float]:
        """Cores used by each kind of process, between two moments of the monotonic clock."""
        inside = [sample for sample in self._samples if begin <= sample[0] <= end]
        if len(inside) < 2:
            return {}
        (since, before), (until, after) = inside[0], inside[-1]
        return {kind: (after[kind] - before[kind]) / (until - since) for kind in after}


def _kind(title: str) -> str:
    return "workers" if "WorkerActor" in title else "the rest of Ray"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.runtime.overhead", description=__doc__)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--block", type=float, default=0.05, help="seconds")
    asked = parser.parse_args()
    measure(asked.workers, asked.seconds, asked.slots, asked.block)
