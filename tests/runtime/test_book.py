"""The example that reads a book once and asks about it: the commands of docs/states.md, in turn."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.json
import pyarrow.parquet as pq
import pytest
import ray
from sentencepiece import SentencePieceProcessor

from rgpipeline import Generator, open_output
from rgpipeline.addresses import DEMO_FOLDER
from tests.runtime.conftest import ROOT

LETTERS, QUESTIONS = 1000, 6  # of the book, and on it
BESIDE = Path(sys.executable).parent
# The same for both jobs, and chunks of one length: most of the time is the compiler's.
ENGINE = {"slots": 8, "prefill_chunk": 16, "steps_per_dispatch": 4}


def shortened_example(folder: Path) -> tuple[str, list[dict[str, str]]]:
    """Copies jobs/book into `folder`; returns what is left of the book, and the questions."""
    here = Path(shutil.copytree(ROOT / "jobs/book", folder / "jobs/book"))
    book = pq.read_table(here / "jeremiah.parquet")
    text = book["text"][0].as_py()[:LETTERS]
    pq.write_table(book.set_column(1, "text", [[text]]), here / "jeremiah.parquet")
    lines = (here / "questions.jsonl").read_text().splitlines(keepends=True)[:QUESTIONS]
    (here / "questions.jsonl").write_text("".join(lines))
    return text, pyarrow.json.read_json(here / "questions.jsonl").to_pylist()


def documented_commands() -> list[list[str]]:
    page = (ROOT / "docs/states.md").read_text()
    (block,) = re.findall(r"^```bash\n(rgpipeline run jobs/book.*?)^```", page, re.M | re.S)
    commands = [shlex.split(line, comments=True) for line in block.splitlines()]
    overrides = [f"--set=engine.{key}={value}" for key, value in ENGINE.items()]
    return [[*one, *(overrides if one[0] == "rgpipeline" else [])] for one in commands]


@pytest.mark.usefixtures("cluster")
def test_the_book_is_read_once_and_questions_get_the_answers_of_whole_prompts(
    tmp_path: Path,
) -> None:
    book, questions = shortened_example(tmp_path)
    path = f"{BESIDE}{os.pathsep}{os.environ['PATH']}"
    here = {**os.environ, "PATH": path, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    for command in documented_commands():
        done = subprocess.run(command, cwd=tmp_path, env=here, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    rows = open_output(str(tmp_path / "out/book-questions")).to_table().to_pylist()
    answers = {row["id"]: row["completion"] for row in rows}
    tokenizer = SentencePieceProcessor(model_file=f"{DEMO_FOLDER}/tokenizer.model")
    prompts = [
        [tokenizer.bos_id(), *tokenizer.encode(book), *tokenizer.encode(one["question"])]
        for one in questions
    ]
    sampling = {"max_tokens": 64, "temperature": 0.7, "seed": 1}
    with Generator.load("demo", **ENGINE) as generator:
        whole = generator.generate(prompts, sampling, ids=[one["ref"] for one in questions])
    assert answers == {one["ref"]: own.text for one, own in zip(questions, whole, strict=True)}
