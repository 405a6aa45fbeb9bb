"""`task: score` over lists of completions: what is scored, and the output row."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rgpipeline.engine.checks import NO_NUMBERS
from rgpipeline.engine.text_requests import TextResult
from rgpipeline.errors import RowError
from rgpipeline.jobfile import parse_job
from rgpipeline.output import open_output
from rgpipeline.plan import Plan, make_plan
from rgpipeline.records import OutputRow
from rgpipeline.spec import Columns, Sampling
from rgpipeline.tasks.choice_task import ChoiceTask
from rgpipeline.tasks.row_prompts import Prompts
from rgpipeline.tasks.task import RowLabel, TextWork
from rgpipeline.text.tokenizer import Tokenizer
from tests.published import job_over, publish

TOKENIZER = Tokenizer.load(str(Path(__file__).parent.parent / "golden" / "tokenizer"))
ROW = RowLabel(0, 3, "a", "in.parquet, row 4")
CHOICES = [" word", " the", " of the"]


def work(choices: object, logprobs: int = 0) -> TextWork:
    columns = Columns(prompt="p", completion="c")
    prompts = Prompts(columns, Sampling(logprobs=logprobs), TOKENIZER)
    (one,) = ChoiceTask().work(ROW, {"p": "In the", "c": choices}, prompts)
    assert isinstance(one, TextWork)
    return one


def lengths() -> list[int]:
    return [len(TOKENIZER.encode(text, bos=False)) for text in CHOICES]


def output_row(by_text: list[float], logprobs: int = 0) -> OutputRow:
    """Of the choices, whose tokens all have the log-probability that is given for the text."""
    values = np.repeat(np.asarray(by_text, np.float32), lengths())
    result = TextResult(ROW.key(), len(values), values, values > -2)
    one = work(CHOICES, logprobs)
    return one.output_row(ROW, result)


def test_every_text_is_a_completion_of_the_prompt_without_a_beginning_of_text() -> None:
    request = work(CHOICES).request
    tokens = [TOKENIZER.encode(text, bos=False) for text in CHOICES]
    prompt = TOKENIZER.encode("In the")
    assert request.tokens.tolist() == prompt + tokens[0]
    assert (request.first, [o.tolist() for o in request.others]) == (len(prompt), tokens[1:])


def test_a_single_text_is_a_list_of_one() -> None:
    assert work("word").request.others == ()


@pytest.mark.parametrize(
    ("choices", "told"),
    [
        (None, "'c' is null"),
        ([], "'c' is empty"),
        (["a", None], r"'c\[1\]' holds null; text is needed"),
        (["a", ""], r"'c\[1\]' has no tokens"),
    ],
)
def test_what_cannot_be_scored_is_named(choices: object, told: str) -> None:
    with pytest.raises(RowError, match=told):
        work(choices)


def test_the_lists_have_an_element_for_each_text_and_the_best_are_told(tmp_path: Path) -> None:
    rows = [{"prompt": "In the", "c": CHOICES, "id": str(k)} for k in range(3)]
    columns = {"prompt": "prompt", "completion": "c", "id": "id"}
    job = job_over(
        tmp_path,
        rows,
        task="score",
        input={"columns": columns},
        sampling={"logprobs": 1},
        output={"prefix": "rg_"},
    )

    def answer(number: int, _: Any) -> list[OutputRow]:
        found = [output_row([-3.0, -1.0, -1.5]), output_row([-1.0, -1.0, -1.0], 1)]
        return [[*found, ROW.failed("no prompt")][number]]

    table = open_output(publish(job, answer)).to_table()
    first, second, failed = table.to_pylist()
    counts = lengths()
    sums = np.multiply(counts, [-3.0, -1.0, -1.5])
    assert first["rg_tokens"] == counts
    np.testing.assert_allclose(first["rg_logprob"], sums)
    np.testing.assert_allclose(first["rg_perplexity"], np.exp([3.0, 1.0, 1.5]), rtol=1e-6)
    assert first["rg_is_greedy"] == [False, True, True]
    assert (first["rg_best"], first["rg_best_sum"]) == (1, int(np.argmax(sums)))
    assert second["rg_best"] == 0, "of equal ones the first"
    assert first["rg_token_logprobs"] == [None] * 3
    assert second["rg_token_logprobs"] == [[-1.0] * count for count in counts]
    assert failed["rg_error"].endswith("no prompt")
    assert failed["rg_best"] is failed["rg_logprob"] is None
    assert table["rg_best"].type == pa.int32()


def test_a_text_without_numbers_fails_the_row() -> None:
    assert output_row([-1.0, np.nan, -1.0]).error == f"in.parquet, row 4: {NO_NUMBERS}"


def test_a_column_of_json_lists_holds_choices(tmp_path: Path) -> None:
    lines = ['{"prompt": "a", "c": ["b", "c"]}', '{"prompt": "a", "c": "b"}']
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    facts = {
        "task": "score",
        "model": {"weights": "demo"},
        "input": {"path": str(tmp_path / "in.jsonl"), "columns": {"completion": "c"}},
        "output": {"path": str(tmp_path / "out")},
    }
    job = parse_job(facts, "job")
    plan = make_plan(job)
    assert plan.choices
    assert Plan.from_json(plan.to_json()).choices
