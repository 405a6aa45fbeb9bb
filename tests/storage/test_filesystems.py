"""Storage options: secrets come from the environment and go nowhere else."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from rgpipeline.errors import InputError, JobError
from rgpipeline.plan import open_or_create
from rgpipeline.spec import Job
from rgpipeline.storage.filesystems import open_filesystem, protocol_of, resolve_options
from rgpipeline.storage.store import open_store

SECRET = "hunter2-in-the-environment"


def job(options: dict[str, Any], folder: str = "out") -> Job:
    return Job.model_validate(
        {
            "model": {"weights": "demo"},
            "input": {"path": f"{folder}/in.parquet"},
            "output": {"path": f"{folder}/out"},
            "storage_options": options,
        }
    )


def test_references_are_resolved_at_any_depth() -> None:
    options = {"s3": {"secret": "${S}", "client_kwargs": {"a": ["x${S}", 1]}}}
    resolved = resolve_options(options, {"S": SECRET})
    assert resolved == {"s3": {"secret": SECRET, "client_kwargs": {"a": [f"x{SECRET}", 1]}}}


def test_a_variable_that_is_not_set_is_named_with_its_option() -> None:
    with pytest.raises(JobError, match=r"storage_options\.s3\.secret: the environment has no S;"):
        resolve_options({"s3": {"secret": "${S}"}}, {})


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"s3": {"secret": "abc"}}, "s3.secret"),
        ({"s3": {"client_kwargs": {"aws_secret_access_key": "abc"}}}, "aws_secret_access_key"),
        ({"gs": {"token": {"private_key": "abc"}}}, "gs.token.private_key"),
        ({"https": {"headers": {"Authorization": "Bearer abc"}}}, "headers.Authorization"),
        ({"az": {"account_key": "abc"}}, "az.account_key"),
        ({"s3": {"secret": "abc${S}"}}, "s3.secret"),
    ],
)
def test_a_secret_written_out_is_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=rf"{named} is a secret; write \${{NAME}}"):
        job(options)


@pytest.mark.parametrize(
    "options",
    [
        {"s3": {"key": "AKIA", "secret": "${S}", "endpoint_url": "http://h"}},
        {"gs": {"token": "anon"}},
        {"gs": {"token": "google_default"}},
        {"gs": {"token": "/secrets/account.json"}},
        {"s3": {"anon": True}},
    ],
)
def test_what_tells_no_secret_is_allowed(options: dict[str, Any]) -> None:
    assert job(options).storage_options == options


def test_a_secret_is_written_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RGP_SECRET", SECRET)
    pq.write_table(pa.table({"prompt": ["a"]}), tmp_path / "in.parquet")
    options = {"s3": {"secret": "${RGP_SECRET}"}, "file": {"auto_mkdir": False}}
    open_or_create(job(options, str(tmp_path)), open_store(str(tmp_path / "out")))
    written = [p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert not any(SECRET.encode() in data for data in written)
    there = json.loads((tmp_path / "out/_rgp/job.json").read_text())
    assert there["storage_options"] == options


@pytest.mark.parametrize(
    ("protocol", "urls"),
    [
        ("file", ["/x", "x", "file:///x", "local:///x"]),
        ("s3", ["s3://b", "s3a://b"]),
        ("gs", ["gs://b", "gcs://b"]),
    ],
)
def test_spellings_of_one_store_are_one(protocol: str, urls: list[str]) -> None:
    assert {protocol_of(url) for url in urls} == {protocol}


def test_options_are_found_by_any_spelling_of_their_protocol() -> None:
    fs, _ = open_filesystem("s3://b/x", {"s3a": {"endpoint_url": "http://127.0.0.1:1"}})
    assert fs.endpoint_url == "http://127.0.0.1:1"


def test_google_is_not_waited_for_for_ever() -> None:
    fs, _ = open_filesystem("gs://b/x", {"gs": {"token": "anon"}})
    assert 0 < fs.requests_timeout.sock_read <= 60
    fs, _ = open_filesystem("gs://b/x", {"gs": {"token": "anon", "requests_timeout": 7}})
    assert fs.requests_timeout == 7


def test_a_protocol_nobody_knows_is_named() -> None:
    with pytest.raises(InputError, match=r"nosuch://x: nosuch:// cannot be opened"):
        open_filesystem("nosuch://x", None)
