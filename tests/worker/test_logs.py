"""A worker's log: a JSON object a line, with job, worker and shard."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from rgpipeline.runtime.process_setup import JsonLines
from tests.worker.planned_jobs import PROMPTS, finish, plan_job


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    handler, logger = logging.StreamHandler(io.StringIO()), logging.getLogger("rgpipeline")
    handler.setFormatter(JsonLines(job="j", worker="w7"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler.stream
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def test_every_line_says_whose_it_is_and_what_is_about_a_shard_says_which(tmp_path, stream):
    given = plan_job(tmp_path, [{"ids": prompt} for prompt in PROMPTS])
    finish(given.worker(), given.assignments)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    keys = ["t", "level", "logger", "job", "worker", "shard", "message"]
    assert all(list(line) == keys for line in lines)
    assert {(line["job"], line["worker"]) for line in lines} == {("j", "w7")}
    finished = {line["shard"] for line in lines if "are finished" in line["message"]}
    assert finished == {0, 1}
    opened = [line["shard"] for line in lines if "engine open" in line["message"]]
    assert opened == [None]


def test_a_fault_comes_with_its_traceback():
    fault = ValueError("x")
    record = logging.LogRecord("a", logging.ERROR, "", 1, "gone", (), (type(fault), fault, None))
    line = json.loads(JsonLines(job="j", worker="w").format(record))
    assert line["traceback"].endswith("ValueError: x")
