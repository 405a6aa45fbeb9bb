"""Prompts that hold a chat template's tokens are told once, with what to do."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rgpipeline.jobfile import parse_job
from rgpipeline.plan import make_plan
from rgpipeline.validation.templated_prompts import prompt_warnings
from tests.text.conftest import GOLDEN
from tests.text.json_tokenizers import converted, write

TURN = "<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n"
MODEL, JSON = "tokenizer.model", "tokenizer.json"


@pytest.fixture
def told(tmp_path: Path):
    """`told(prompts)`: the warnings for a job over these prompts."""

    def warnings(prompts: list[Any], file: str = MODEL, **sections: Any) -> list[str]:
        weights = str(GOLDEN)
        if file == JSON:
            weights = write(tmp_path / "w", converted((GOLDEN / MODEL).read_bytes()))
        path = tmp_path / "in.parquet"
        pq.write_table(pa.table({"p": pa.array(prompts, pa.string())}), path)
        given = {"path": str(path), "columns": {"prompt": "p"}, **sections.pop("input", {})}
        output = {"path": str(tmp_path / "out")}
        mapping = {"model": {"weights": weights}, "input": given, "output": output, **sections}
        job = parse_job(mapping, "job")
        return list(prompt_warnings(job, make_plan(job)))

    return warnings


def test_the_warning_names_how_many_the_first_and_the_way_out(told) -> None:
    (warning,) = told(["In", f"<bos>{TURN}", None, TURN])
    assert warning == (
        "2 of all 4 rows have a prompt that looks as if a chat template had been applied already "
        "(the first: in.parquet, row 1, with '<bos>'); '<bos>' is ordinary text in them, after a "
        "BOS of our own. Give chats as input.columns.messages; or, if these are whole prompts, set "
        "input.special_tokens: parse (all control tokens count, after one BOS), and "
        "sampling.stop: ['<end_of_turn>']; or, if they are texts about such tokens, set it to text "
        "(none of them counts)"
    )


def test_a_tokenizer_json_reads_bos_so_only_the_end_is_told(told) -> None:
    (warning,) = told([f"<bos>{TURN}"], JSON)
    assert "they are continued as they are, after one BOS. Give chats" in warning
    (warning,) = told([TURN], JSON, sampling={"stop": ["<end_of_turn>"]})
    assert "with '<start_of_turn>'" in warning
    assert "sampling.stop" not in warning
    assert "sampling.stop" not in told([TURN], task="score")[0]


@pytest.mark.parametrize("how", ["parse", "text"])
def test_a_job_that_says_how_they_are_meant_is_not_warned(told, how: str) -> None:
    assert told([f"<bos>{TURN}"], input={"special_tokens": how}) == []


def test_without_a_bos_of_ours_only_one_that_is_misread_is_told(told) -> None:
    bare = {"bos": False}
    assert told([TURN], input=bare) == []
    assert told([f"<bos>{TURN}"], JSON, input=bare) == []
    assert "with '<bos>'" in told([f"<bos>{TURN}"], input=bare)[0]


def test_only_the_first_thousand_rows_are_looked_at(told) -> None:
    (warning,) = told([*["In"] * 998, "<bos>", "In", "<bos>"])
    assert warning.startswith("1 of the first 1,000 rows have")
    assert "row 998, with '<bos>'" in warning


def test_turns_of_the_jobs_own_template_are_meant(told) -> None:
    template = {"columns": {}, "template": f"{TURN}{{p}}"}
    assert told(["In"], input=template) == []
    assert "row 1, with '<start_of_turn>'" in told(["In", TURN], input=template)[0]


def test_ordinary_texts_are_not_told(told) -> None:
    assert told(["In the beginning", "a <bos> in the middle", "<s>", ""]) == []
