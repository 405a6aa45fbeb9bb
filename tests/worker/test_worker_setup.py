"""What makes prompts is opened as the job says."""

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from rgpipeline.errors import WeightsError
from rgpipeline.jobfile import parse_job
from rgpipeline.model.weights.model_source import resolve_source
from rgpipeline.plan import Plan, make_plan
from rgpipeline.spec import Job
from rgpipeline.tasks.row_prompts import Prompts
from rgpipeline.text.chat import ChatTemplate
from rgpipeline.worker.worker_setup import open_prompts

GOLDEN = Path(__file__).parent.parent / "golden"
CHAT = [{"role": "user", "content": "Hello"}]


def job_of(folder: Path, **model: Any) -> Job:
    (folder / "in.jsonl").write_text(json.dumps({"chat": CHAT, "prompt": "a", "ids": [1]}) + "\n")
    columns = model.pop("columns", {"messages": "chat"})
    input = model.pop("input", {})
    mapping = {
        "task": model.pop("task", "generate"),
        "model": {"weights": str(GOLDEN / "tokenizer"), **model},
        "input": {"path": str(folder / "in.jsonl"), "columns": columns, **input},
        "output": {"path": str(folder / "out"), "keep": []},
    }
    return parse_job(mapping, "job")


def opened(job: Job, plan: Plan | None = None) -> Prompts:
    return open_prompts(job, plan or make_plan(job), resolve_source(job.model))


def rendered(prompts: Prompts) -> str:
    assert isinstance(prompts.chat, ChatTemplate)
    return prompts.chat.render(CHAT)


def test_a_jobs_own_chat_template_is_used(tmp_path: Path) -> None:
    prompts = opened(job_of(tmp_path, chat_template="<{{ messages[0].content }}>"))
    assert rendered(prompts) == "<Hello>"


def test_texts_and_chats_are_read_as_the_job_says(tmp_path: Path) -> None:
    columns = {"messages": "chat", "id": "prompt"}
    as_text = opened(job_of(tmp_path, columns=columns, input={"special_tokens": "text"}))
    bare = opened(job_of(tmp_path, columns=columns, input={"bos": False}))
    assert isinstance(as_text.chat, ChatTemplate)
    assert isinstance(bare.chat, ChatTemplate)
    turn = [{"role": "user", "content": "<end_of_turn>"}]
    end = as_text.tokenizer.piece_to_id("<end_of_turn>")
    assert [as_text.chat.encode(turn).count(end), bare.chat.encode(turn).count(end)] == [1, 2]
    assert bare.chat.encode(turn)[0] != bare.tokenizer.bos_id
    prompt = opened(job_of(tmp_path, columns={"prompt": "prompt"}, input={"bos": False}))
    assert prompt.make({"prompt": "a"}).tokens == prompt.tokenizer.encode("a", bos=False)


def test_a_template_is_told_the_moment_the_job_began(tmp_path: Path) -> None:
    job = job_of(tmp_path, chat_template="{{ strftime_now('%Y-%m-%d %H:%M') }}")
    plan = replace(make_plan(job), began=datetime(2026, 2, 3, 4, 5))
    assert rendered(opened(job, Plan.from_json(plan.to_json()))) == "2026-02-03 04:05"


def test_a_tokenizer_larger_than_the_model_is_refused_where_texts_are_read(tmp_path: Path) -> None:
    prompts = opened(job_of(tmp_path))
    prompts.require_known_ids(1024)
    with pytest.raises(WeightsError, match="1,024 tokens, the model only 256"):
        prompts.require_known_ids(256)


def test_where_only_ids_are_read_it_may_be_larger(tmp_path: Path) -> None:
    opened(job_of(tmp_path, columns={"prompt_ids": "ids"})).require_known_ids(256)


def test_scores_of_ids_need_no_tokenizer(tmp_path: Path) -> None:
    prompts = opened(job_of(tmp_path, columns={"prompt_ids": "ids"}, task="score"))
    assert prompts.tokenizer is None
