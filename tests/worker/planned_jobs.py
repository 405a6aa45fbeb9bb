"""Jobs of a few rows, and workers that do them with the fake engine."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rgpipeline.io.parts import build_part
from rgpipeline.jobfile import parse_job
from rgpipeline.plan import Plan, open_or_create
from rgpipeline.plan.planner import cut_shards
from rgpipeline.records import Assignment, OutputRow, WorkerReport
from rgpipeline.spec import Job
from rgpipeline.storage.store import Store, open_store
from rgpipeline.tasks import added_columns
from rgpipeline.worker import Worker
from rgpipeline.worker.shared import WorkerPolicy
from tests.worker.ten_tokens import factory, write_tokenizer

PATIENCE_S = 240.0  # nobody waits so long but on a machine that has much else to do
PROMPTS = [[1, 2], [1, 3, 9], [1, 7], [1, 4, 4], [1, 6, 8], [1, 9], [1, 3], [1, 8, 8, 3]]


@dataclass
class Given:
    """A job, planned, and where it publishes."""

    job: Job
    plan: Plan
    store: Store
    out: Path

    def worker(self, attempt: str = "a", store: Store | None = None, **options: Any) -> Worker:
        """`options`: the fake engine's, or `policy` and `open_engine`."""
        policy = options.pop("policy", WorkerPolicy())
        opener = options.pop("open_engine", None) or factory(**{"slots": 4, **options})
        return Worker(
            self.job,
            self.plan,
            store or self.store,
            attempt=attempt,
            open_engine=opener,
            policy=policy,
        )

    def part(self, rows: Sequence[OutputRow], shard: int = 0, part: int = 0) -> bytes:
        """The bytes of a part that somebody else publishes."""
        table = self.plan.read(self.plan.shards[shard]).table.select(list(self.plan.kept))
        label = self.plan.label(self.job, shard, part, "somebody else")
        kept = table.take([row.row for row in rows])
        return build_part(kept, rows, added_columns(self.job), label)

    @property
    def assignments(self) -> list[Assignment]:
        return [Assignment(shard) for shard in self.plan.shards]

    def table(self) -> pa.Table:
        """Everything published, by shard, row, sample and segment, whatever part it came in."""
        table = pa.concat_tables(
            [pq.read_table(part) for part in self.parts()]
        ).replace_schema_metadata()
        return table.sort_by(
            [("n", "ascending"), ("sample", "ascending"), ("segment", "ascending")]
        )

    def rows(self) -> list[dict[str, Any]]:
        return self.table().to_pylist() if self.parts() else []

    def parts(self) -> list[Path]:
        return sorted(self.out.glob("part-*.parquet"))

    def snapshots(self) -> list[str]:
        folder = self.out / "_rgp" / "state"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def plan_job(
    folder: Path,
    rows: Sequence[dict[str, Any] | str] | pa.Table,
    shard_rows: int = 4,
    out: str = "out",
    **sections: Any,
) -> Given:
    """A job over `rows` (numbered in a column n; text is a line as it is), cut into shards."""
    folder.mkdir(parents=True, exist_ok=True)
    path = sections.pop("path", None) or _write_input(folder, rows)
    output = {"path": str(folder / out), "token_ids": True, **sections.pop("output", {})}
    mapping = {
        "model": sections.pop("model", None)
        or {"weights": "fake", "tokenizer": write_tokenizer(folder)},
        "input": {
            "path": str(path),
            "columns": sections.pop("columns", {"prompt_ids": "ids"}),
            "template": sections.pop("template", None),
            "format": sections.pop("format", "auto"),
        },
        "output": output,
        "sampling": {"max_tokens": 20, **sections.pop("sampling", {})},
        **sections,
    }
    job = parse_job(mapping, "job")
    store = open_store(job.output.path)
    plan = open_or_create(job, store)
    shards = cut_shards([file.rows for file in plan.files], shard_rows)
    return Given(job, replace(plan, shards=shards), store, folder / out)


def _write_input(folder: Path, rows: Sequence[dict[str, Any] | str] | pa.Table) -> Path:
    if isinstance(rows, pa.Table):
        path = folder / "in.parquet"
        pq.write_table(rows, path)
        return path
    path = folder / "in.jsonl"
    lines = [r if isinstance(r, str) else json.dumps({"n": n, **r}) for n, r in enumerate(rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


@contextmanager
def running(*workers: Worker) -> Iterator[None]:
    """The workers run meanwhile; in the end they are drained."""
    threads = [Thread(target=worker.run, daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.drain()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert not any(thread.is_alive() for thread in threads), "a worker did not stop"


def until(condition: Callable[[], object], *workers: Worker) -> None:
    """Waits; a worker that can't go on ends the waiting too."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition() and not any(worker.report().error for worker in workers):
        assert time.monotonic() < deadline, [worker.report() for worker in workers]
        time.sleep(0.002)


def finish(worker: Worker, assignments: Sequence[Assignment]) -> WorkerReport:
    """Lets a worker do what it is given, unless it stops by itself; its last report."""
    with running(worker):
        worker.set_assignments(assignments)
        wanted = {assignment.key for assignment in assignments}
        until(lambda: worker.report().stopped or wanted <= keys_done(worker, assignments), worker)
    return worker.report()


def keys_done(worker: Worker, assignments: Sequence[Assignment]) -> set[Any]:
    told = {(done.shard, done.row_range) for done in worker.report().finished}
    return {a.key for a in assignments if (a.shard.index, a.rows) in told}


class Instead:
    """A store of which one method is another."""

    def __init__(self, store: Store, **methods: Callable[..., Any]) -> None:
        self._store = store
        self.__dict__.update(methods)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)
