"""Whatever stands in a file, a person gets an answer: never a traceback, a bug's message, a hang.

The same examples each time; `make fuzz EXAMPLES=20000` looks further.
"""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rgpipeline.cli.app import call
from rgpipeline.errors import JobError, WeightsError
from rgpipeline.jobfile import load_job
from rgpipeline.spec import Job
from tests.sources import source

EXAMPLES = int(os.environ.get("RGP_FUZZ_EXAMPLES", "0"))
bounded = settings(
    max_examples=EXAMPLES or 60,
    derandomize=not EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

JOB = {
    "model": {"weights": "demo"},
    "input": {"path": "prompts.parquet", "columns": {"prompt": "prompt"}},
    "output": {"path": "out"},
    "sampling": {"max_tokens": 5, "stop": ["x"], "temperature": 0.5},
    "engine": {"slots": 4},
    "workers": {"accelerator": "cpu", "count": 1, "mesh": {"model": 1}},
}
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=8),
    st.dates(),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3),
    max_leaves=6,
)
PLACES = st.sampled_from(
    [(name,) for name in Job.model_fields]
    + [(name, key) for name, section in JOB.items() for key in section]
    + [("storage_options", "s3"), ("faults", "worker_timeout_s"), ("input", "template")]
)


def spoilt(data: bytes) -> st.SearchStrategy[bytes]:
    """`data` cut short, with some bytes changed, or with a stretch put elsewhere."""
    places = st.integers(0, max(len(data) - 1, 0))
    changes = st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=6)

    def change(edits: list[tuple[int, int]]) -> bytes:
        copy = bytearray(data)
        for place, value in edits:
            copy[place] = value
        return bytes(copy)

    def move(start: int, stop: int) -> bytes:
        return data[: min(start, stop)] + data[stop:] + data[start:stop]

    return st.one_of(
        places.map(lambda place: data[:place]),
        changes.map(change),
        st.builds(move, places, places),
    )


def parquet() -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.table({"prompt": [f"text {i}" for i in range(50)], "n": list(range(50))})
    pq.write_table(table, sink, row_group_size=20, compression="zstd")
    return bytes(sink.getvalue())


def jsonl() -> bytes:
    return b"".join(
        json.dumps({"prompt": f"text {i}", "tags": [i], "of": {"n": i}}).encode() + b"\n"
        for i in range(12)
    )


def batch() -> bytes:
    body = {"model": "m", "max_tokens": 4, "messages": [{"role": "user", "content": "x"}]}
    request = {"method": "POST", "url": "/v1/chat/completions", "body": body}
    lines = (json.dumps({"custom_id": f"c{i}", **request}) for i in range(6))
    return "\n".join(lines).encode()


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.parquet").write_bytes(parquet())


def answered(*command: str) -> None:
    """The command ends by itself, with nothing that was not foreseen."""
    assert call(command) in (0, 2)


def job_with(**input: Any) -> None:
    job = {**JOB, "input": {"columns": {"prompt": "prompt"}, **input}}
    if input.get("format") == "openai-batch":
        del job["input"]["columns"]
    Path("job.yaml").write_text(yaml.safe_dump(job))


@bounded
@given(st.binary(max_size=200) | spoilt(yaml.safe_dump(JOB).encode()))
def test_bytes_in_the_job_file(data: bytes) -> None:
    Path("job.yaml").write_bytes(data)
    with suppress(JobError):
        load_job("job.yaml")


@bounded
@given(PLACES, VALUES)
def test_values_in_the_job_file(place: tuple[str, ...], value: Any) -> None:
    job = json.loads(json.dumps(JOB))
    section = job
    for name in place[:-1]:
        section = section.setdefault(name, {})
    section[place[-1]] = value
    Path("job.yaml").write_text(yaml.safe_dump(job))
    answered("validate", "job.yaml")


@bounded
@given(st.text(max_size=30), VALUES)
def test_overrides(key: str, value: Any) -> None:
    job_with(path="prompts.parquet")
    answered("run", "job.yaml", "--dry-run", f"--set={key}={value}")


@bounded
@given(spoilt(parquet()))
def test_bytes_in_a_parquet_file(data: bytes) -> None:
    Path("prompts.parquet").write_bytes(data)
    job_with(path="prompts.parquet")
    answered("validate", "job.yaml")


@bounded
@given(st.binary(max_size=100) | spoilt(jsonl()))
def test_bytes_in_a_json_lines_file(data: bytes) -> None:
    Path("p.jsonl").write_bytes(data)
    job_with(path="p.jsonl")
    answered("validate", "job.yaml")


@bounded
@given(spoilt(batch()))
def test_bytes_in_a_batch_file(data: bytes) -> None:
    Path("p.jsonl").write_bytes(data)
    job_with(path="p.jsonl", format="openai-batch")
    answered("validate", "job.yaml")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import numpy as np

    from rgpipeline.model.config import GRIFFIN_CYCLE, GriffinConfig
    from tests.model.hf_folder import random_tensors, write

    config = GriffinConfig(11, 8, 8, 2, 8, GRIFFIN_CYCLE, window=4)
    folder = tmp_path_factory.mktemp("weights")
    return write(folder, config, random_tensors(config, 0, np.float32))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_bytes_in_weights(weights: Path, name: str) -> None:
    from rgpipeline.model.weights.checkpoint import open_checkpoint

    whole = (weights / name).read_bytes()

    @bounded
    @given(spoilt(whole[:4000]).map(lambda head: head + whole[4000:]) | spoilt(whole))
    def opens_or_is_refused(data: bytes) -> None:
        (weights / name).write_bytes(data)
        with suppress(WeightsError):
            open_checkpoint(source(weights))

    try:
        opens_or_is_refused()
    finally:
        (weights / name).write_bytes(whole)
