"""What is measured: planning, and whole jobs with the memory of their processes."""

import resource
import time
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from rgpipeline import run
from rgpipeline.jobfile import parse_job
from rgpipeline.plan import make_plan
from rgpipeline.spec import Job
from tests.scale.engine import Instant
from tests.storage.servers import Place
from tests.worker.ten_tokens import write_tokenizer

Figures = dict[str, Any]


def write_input(place: Place, rows: int, files: int) -> None:
    """`rows` short prompts in `files` Parquet files."""
    fs, path = place.filesystem()
    fs.makedirs(path, exist_ok=True)
    step = -(-rows // files)
    for number in range(files):
        ids = range(number * step, min(rows, (number + 1) * step))
        table = pa.table(
            {
                "name": pa.array(ids, pa.int64()),
                "text": [f"a short prompt, number {row}" for row in ids],
                "ids": pa.array([[1 + row % 9] for row in ids], pa.list_(pa.int32())),
            }
        )
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        fs.pipe_file(f"{path}/{number:05d}.parquet", sink.getvalue().to_pybytes())


def job_over(input: Place, folder: Path, workers: int = 1) -> Job:
    return parse_job(
        {
            "model": {"weights": "demo", "tokenizer": write_tokenizer(folder)},
            "input": {"path": input.url, "columns": {"prompt_ids": "ids", "id": "name"}},
            "output": {"path": str(folder / "out")},
            "sampling": {"max_tokens": 1, "temperature": 0, "ignore_eos": True},
            "workers": {"accelerator": "cpu", "count": workers, "chips": 1},
            "storage_options": input.storage_options,
        },
        "job",
    )


def planned(job: Job) -> Figures:
    """How long planning takes, and what comes of it."""
    began = time.monotonic()
    plan = make_plan(job)
    seconds = time.monotonic() - began
    return {
        "rows": plan.rows,
        "files": len(plan.files),
        "shards": len(plan.shards),
        "plan_s": round(seconds, 2),
        "plan_json_mb": round(len(plan.to_json()) / 2**20, 2),
    }


def done(job: Job, folder: Path) -> Figures:
    """Runs the job; the memory of its driver (this process) and workers, early and at most."""
    before, began = _peak_mib(), time.monotonic()
    summary = run(job, address="local", open_engine=Instant(folder))
    seconds = time.monotonic() - began
    assert summary.outcome == "finished", summary.message
    noted = [[float(mib) for mib in note.read_text().split()] for note in folder.glob("*.mib")]
    early = [mib for life in noted for mib in life[: len(life) // 4]]
    return {
        "run_s": round(seconds, 1),
        "rows_per_s": round(summary.rows_done / seconds),
        "driver_mib_before": before,
        "driver_mib": _peak_mib(),
        "worker_mib_early": round(max(early)),
        "worker_mib": round(max(mib for life in noted for mib in life)),
        **_counted(f"{folder}/out"),
    }


def _counted(output: str) -> Figures:
    """By DuckDB: rows, how many of them different, and those without their answer."""
    rows, different, wrong = duckdb.sql(
        "SELECT count(*), count(DISTINCT id), "
        "count(*) FILTER (completion_tokens != 1 OR id != CAST(name AS VARCHAR)) "
        f"FROM '{output}/*.parquet'"
    ).fetchall()[0]
    return {"rows": rows, "different_rows": different, "wrong_rows": wrong}


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
