"""Runs a small job over given files in this process, with the fake engine."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from hypothesis import HealthCheck, settings

from rgpipeline.errors import InputError, JobError
from rgpipeline.jobfile import parse_job
from rgpipeline.plan import open_or_create
from rgpipeline.records import Assignment
from rgpipeline.storage.store import open_store
from rgpipeline.worker import Worker
from tests.worker.planned_jobs import finish
from tests.worker.ten_tokens import factory, write_tokenizer

EXAMPLES = int(os.environ.get("RGP_FUZZ_EXAMPLES", "0"))
bounded = settings(
    max_examples=EXAMPLES or 25,
    derandomize=not EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

Row = dict[str, Any]
# What a row alone decides. Errors also name the row's number, so only their presence is compared.
OWN = ("completion", "finish_reason", "prompt_tokens", "completion_tokens", "logprob", "tokens")


@dataclass(frozen=True)
class Refused:
    """The job was refused while it was planned."""

    message: str


def run(
    folder: Path, input: Mapping[str, Any], out: str = "out", **sections: Any
) -> list[Row] | Refused:
    """The output rows of a job over `input`, in the order of the input; or why it was refused.

    Fails when the worker stops with an error. `sections` are other sections of the job.
    """
    tokenizer = write_tokenizer(folder)
    mapping = {
        "model": {"weights": str(folder), "tokenizer": tokenizer},
        "input": dict(input),
        "output": {"path": str(folder / out), **sections.pop("output", {})},
        "sampling": {"max_tokens": 8, **sections.pop("sampling", {})},
        **sections,
    }
    try:
        job = parse_job(mapping, "job")
        store = open_store(job.output.path)
        plan = open_or_create(job, store)
    except (InputError, JobError) as error:
        return Refused(str(error))
    worker = Worker(job, plan, store, attempt=out, open_engine=factory(slots=4))
    report = finish(worker, [Assignment(shard) for shard in plan.shards])
    assert report.error is None, report.error
    return published(folder / out)


def with_chat(folder: Path) -> Path:
    """`folder`, with a chat template beside the model and an empty folder `in`."""
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    (folder / "in").mkdir()
    return folder


def published(out: Path) -> list[Row]:
    """What a reader of the Parquet files alone sees, in the order of shards and parts."""
    rows: list[Row] = []
    for path in sorted(out.glob("part-*.parquet")):
        rows += pq.read_table(path).to_pylist()
    return rows
