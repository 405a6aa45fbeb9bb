"""What every task says of itself."""

from typing import Any, get_args

import pytest

from rgpipeline.jobfile import parse_job
from rgpipeline.plan.plan_record import identity
from rgpipeline.spec import Job
from rgpipeline.tasks import added_columns, task_of
from rgpipeline.tasks.unused_options import unused_warnings

NAMES = get_args(Job.model_fields["task"].annotation)


def job(task: str, **sections: Any) -> Job:
    facts = {"task": task, "model": {"weights": "demo"}, "input": {"path": "in"}}
    return parse_job({**facts, "output": {"path": "out"}, **sections}, "job")


@pytest.mark.parametrize("name", NAMES)
def test_every_task_of_the_job_file_has_an_object(name: str) -> None:
    assert task_of(job(name)).name == name


@pytest.mark.parametrize("name", NAMES)
def test_a_task_has_the_columns_that_others_read(name: str) -> None:
    columns = set(added_columns(job(name)).names)
    task = task_of(job(name))
    texts = {"completion", "finish_reason"} if task.writes_texts else set()
    assert {"id", "sample", "segment", "prompt_tokens", "error"} <= columns
    assert texts | {task.token_column} <= columns


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_depends_on_the_sections_that_decide_the_output(name: str) -> None:
    known = {"task", "model", "input", "output", "sampling", *task_of(job(name)).sections}
    assert set(identity(job(name))) == known <= set(Job.model_fields)


def test_log_probabilities_of_rows_with_their_own_sampling_are_json() -> None:
    columns = {"prompt": "p", "sampling": "s"}
    one = job("generate", input={"path": "in", "columns": columns})
    assert str(added_columns(one).schema.field("logprobs").type) == "string"
    assert "logprobs" not in added_columns(job("generate")).names


def test_options_that_a_task_does_not_use_are_told() -> None:
    assert unused_warnings(job("score", sampling={"temperature": 0, "n": 2, "logprobs": 1})) == [
        "task score doesn't use sampling.temperature, sampling.n; of sampling, it uses logprobs "
        "alone"
    ]
    output = {"path": "out", "token_ids": True}
    assert unused_warnings(job("embed", output=output)) == [
        "task embed doesn't use output.token_ids"
    ]


@pytest.mark.parametrize("name", NAMES)
def test_options_at_their_defaults_are_not_told(name: str) -> None:
    assert unused_warnings(job(name)) == []


def test_generate_uses_all_of_sampling() -> None:
    assert unused_warnings(job("generate", sampling={"temperature": 0, "n": 2, "seed": 4})) == []
