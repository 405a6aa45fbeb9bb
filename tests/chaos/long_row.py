"""`python -m tests.chaos.long_row`: a row of a million tokens on S3, its worker killed five times.

The joined text must be that of an uninterrupted run, and the workers' memory flat.
"""

import argparse
import hashlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from rgpipeline import run
from rgpipeline.dispatch.job_view import JobView
from rgpipeline.io.snapshots import Snapshots
from rgpipeline.jobfile import parse_job
from rgpipeline.output import JobFolder, whole_texts
from rgpipeline.spec import Job
from rgpipeline.storage.store import open_store
from tests.chaos.engines import Tracked
from tests.chaos.rounds import ray_cluster
from tests.storage.seaweed import Seaweed, seaweed
from tests.storage.servers import Place


@dataclass
class Killer:
    """Kills the worker after given numbers of tokens; samples its memory."""

    folder: Path
    after: list[int]  # tokens of each life, in order
    kills: int = 0
    mib: list[float] = field(default_factory=list)  # of the worker, once at work
    _killed_at: int = 0

    def __call__(self, view: JobView) -> None:
        worker = self._worker()
        if worker is None:
            return
        if view.completion_tokens > self._killed_at:
            with suppress(psutil.NoSuchProcess):
                self.mib.append(worker.memory_info().rss / 2**20)
        if self.after and view.completion_tokens - self._killed_at >= self.after[0]:
            self.after.pop(0)
            self._killed_at = view.completion_tokens
            self.kills += 1
            os.kill(worker.pid, signal.SIGKILL)

    def _worker(self) -> psutil.Process | None:
        notes = sorted(self.folder.glob("*.pid"), key=lambda note: note.stat().st_mtime_ns)
        with suppress(psutil.NoSuchProcess, IndexError):
            worker = psutil.Process(int(notes[-1].stem))
            return worker if "ray::" in " ".join(worker.cmdline()) else None
        return None


def job_for(server: Seaweed, output: str, tokens: int, segment: int) -> Job:
    return parse_job(
        {
            "model": {"weights": "demo", "dtype": "float32"},
            "input": {"path": server.url("in/one.parquet")},
            "output": {
                "path": server.url(output),
                "segment_tokens": segment,
                "token_ids": True,
            },
            "sampling": {"max_tokens": tokens, "ignore_eos": True, "seed": 11},
            "engine": {"slots": 1},
            "workers": {"accelerator": "cpu", "count": 1, "chips": 1},
            "storage_options": server.storage_options,
        },
        "long",
    )


def generate(job: Job, folder: Path, address: str, after: Sequence[int]) -> dict[str, Any]:
    """Runs the job to its end; returns figures of the run and its text."""
    folder.mkdir()
    killer, began = Killer(folder, list(after)), time.monotonic()
    engine = Tracked(folder, by_hand=False, short_intervals=False)
    summary = run(job, address=address, open_engine=engine, watch=killer)
    assert summary.outcome == "finished", summary.message
    (text,) = whole_texts(JobFolder.open(job.output.path, job.storage_options))
    store = open_store(job.output.path, job.storage_options)
    assert not Snapshots(store).of_shard(0), "snapshots are left"
    settled = sorted(killer.mib[: max(1, len(killer.mib) // 5)])
    return {
        "tokens": text.completion_tokens,
        "characters": len(text.text),
        "sha256": hashlib.sha256(text.text.encode()).hexdigest()[:16],
        "ids_sha256": _ids_hash(Place(job.output.path, job.storage_options)),
        "parts": len(store.list("part-")),
        "kills": killer.kills,
        "seconds": round(time.monotonic() - began),
        "worker_mib_first_fifth": round(settled[-1]),
        "worker_mib_most": round(max(killer.mib)),
    }


def _ids_hash(place: Place) -> str:
    """Of all token ids, in the order of their segments, read with pyarrow alone."""
    fs, path = place.filesystem()
    parts = [name for name in fs.ls(path, detail=False) if name.endswith(".parquet")]
    tables = [pq.read_table(pa.BufferReader(fs.cat_file(part))) for part in parts]
    rows = sorted(
        (row for table in tables for row in table.to_pylist()), key=lambda row: row["segment"]
    )
    assert [row["segment"] for row in rows] == list(range(len(rows)))
    ids = [token for row in rows for token in row["completion_ids"]]
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.long_row", description=__doc__)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--segment", type=int, default=65_536)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    random = Random(asked.seed)
    share = asked.tokens / (asked.kills + 1)
    after = [int(share * random.uniform(0.5, 1.0)) for _ in range(asked.kills)]
    with (
        tempfile.TemporaryDirectory(prefix="long-", ignore_cleanup_errors=True) as name,
        seaweed(Path(name) / "store") as server,
        ray_cluster() as address,
    ):
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"prompt": ["In the beginning"]}), sink)
        server.filesystem().pipe_file("test/in/one.parquet", sink.getvalue().to_pybytes())
        told = {}
        for what, kills in (("killed", after), ("uninterrupted", [])):
            job = job_for(server, what, asked.tokens, asked.segment)
            told[what] = generate(job, Path(name) / what, address, kills)
            print(json.dumps({what: told[what]}), flush=True)
        same = all(
            told["killed"][key] == told["uninterrupted"][key]
            for key in ("tokens", "characters", "sha256", "ids_sha256")
        )
        print("the same text" if same else "NOT the same text")
        return 0 if same and told["killed"]["kills"] == asked.kills else 1


if __name__ == "__main__":
    sys.exit(main())
