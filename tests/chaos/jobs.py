"""Chaos jobs: short and long rows, some with two samples; their input and output are on S3."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rgpipeline.jobfile import parse_job
from rgpipeline.spec import Job
from tests.storage.servers import Place
from tests.worker.ten_tokens import write_tokenizer

LONG = 20  # every 20th row is long


def write_input(place: Place, rows: int, seed: int) -> None:
    """Prompts as texts and as token ids, with each row's own sampling, in several files."""
    random = Random(seed)
    fs, path = place.filesystem()
    for start in range(0, rows, 100):
        numbers = range(start, min(rows, start + 100))
        table = pa.table(
            {
                "name": [f"row-{number}" for number in numbers],
                "prompt": [f"In the beginning, {number} days" for number in numbers],
                "ids": [[1 + random.randrange(9) for _ in range(4)] for _ in numbers],
                "how": [json.dumps(_sampling(number, random)) for number in numbers],
            }
        )
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, row_group_size=30)
        fs.pipe_file(f"{path}/{start:05d}.parquet", sink.getvalue().to_pybytes())


def _sampling(number: int, random: Random) -> dict[str, Any]:
    if number % LONG == LONG // 2:
        return {"max_tokens": random.randrange(500, 900), "ignore_eos": True}
    return {"max_tokens": random.randrange(1, 90), "n": 1 + (number % 7 == 3)}


def job_for(by_hand: bool, input: Place, output: Place, folder: Path) -> Job:
    """A row's bytes do not depend on `output`."""
    prompt = {"prompt_ids": "ids"} if by_hand else {"prompt": "prompt"}
    tokenizer = write_tokenizer(folder) if by_hand else None
    return parse_job(
        {
            "model": {"weights": "demo", "tokenizer": tokenizer, "dtype": "float32"},
            "input": {
                "path": f"{input.url}/*.parquet",
                "columns": {**prompt, "id": "name", "sampling": "how"},
            },
            "output": {"path": output.url, "segment_tokens": 128, "token_ids": True},
            "sampling": {"temperature": 0.0 if by_hand else 0.8, "seed": 7, "logprobs": 2},
            "engine": {"slots": 6, "prefill_chunk": 16, "steps_per_dispatch": 4},
            "workers": {"accelerator": "cpu", "count": 3, "chips": 1},
            "storage_options": output.storage_options,
            "faults": {"worker_timeout_s": 20},
        },
        "chaos",
    )
