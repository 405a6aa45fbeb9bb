"""Jobs over prompts of token ids, whose every answer can be worked out by hand."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rgpipeline import open_output
from rgpipeline.jobfile import parse_job
from rgpipeline.spec import Job
from tests.fake_engine import by_hand

MAX_TOKENS = 24


def prompts(rows: int) -> list[list[int]]:
    """Short prompts whose continuations differ in length."""
    return [[1 + row % 7, 1 + row % 8, 1 + row % 3] for row in range(rows)]


def job_over(
    folder: Path, given: list[list[int]], own: Mapping[int, Mapping[str, Any]] = {}, **sections: Any
) -> Job:
    """A job over `given`; some rows have their `own` sampling.

    `workers`, `faults`… are sections of its file.
    """
    inputs, rows = folder / "in", range(len(given))
    inputs.mkdir()
    table = {"name": [f"row-{row}" for row in rows], "ids": given}
    columns = {"prompt_ids": "ids", "id": "name"}
    if own:
        table["own"] = [json.dumps(own.get(row, {})) for row in rows]
        columns["sampling"] = "own"
    pq.write_table(pa.table(table), inputs / "rows.parquet")
    return parse_job(
        {
            "model": {"weights": "demo"},
            "input": {"path": str(inputs), "columns": columns},
            "output": {"path": str(folder / "out"), "token_ids": True},
            "sampling": {"max_tokens": MAX_TOKENS, "temperature": 0},
            "workers": {"accelerator": "cpu", "count": 2, "chips": 1},
            **sections,
        },
        "job",
    )


def rows_of(job: Job) -> list[dict[str, Any]]:
    """All that the job has published, by id."""
    rows: list[dict[str, Any]] = open_output(job.output.path).to_table().to_pylist()
    return sorted(rows, key=lambda row: row["id"])


def answers(job: Job) -> list[tuple[str, list[int] | None]]:
    """What the job has published, by id: every row as often as it is there."""
    table = open_output(job.output.path).to_table()
    rows = zip(table["id"].to_pylist(), table["completion_ids"].to_pylist(), strict=True)
    return sorted(rows, key=lambda row: int(row[0].removeprefix("row-")))


def right_answers(given: list[list[int]]) -> list[tuple[str, list[int]]]:
    return [(f"row-{i}", by_hand(prompt, MAX_TOKENS)) for i, prompt in enumerate(given)]
