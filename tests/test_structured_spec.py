"""`sampling.structured_outputs`: what it may be, in a job, a row and a batch request."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rgpipeline.errors import JobError, RowError
from rgpipeline.jobfile import load_job, parse_job
from rgpipeline.spec import Columns, Sampling, StructuredOutputs
from rgpipeline.tasks.row_prompts import Prompts
from rgpipeline.tasks.row_sampling import row_sampling
from rgpipeline.text.grammar_check import GrammarCheck
from rgpipeline.text.tokenizer import Tokenizer

SCHEMA = {"type": "object", "properties": {"z": {"const": None}, "a": {"type": "integer"}}}
TEXT = '{"type":"object","properties":{"z":{"const":null},"a":{"type":"integer"}}}'
TOKENIZER = Tokenizer.load(str(Path(__file__).parent / "golden" / "tokenizer"))


def job(structured: Any, **more: Any) -> dict[str, Any]:
    return {
        "model": {"weights": "demo"},
        "input": {"path": "demo"},
        "output": {"path": "out"},
        "sampling": {"structured_outputs": structured, **more},
    }


def test_a_schema_is_the_same_as_an_object_and_as_text_and_keeps_its_order() -> None:
    spelled = [SCHEMA, json.dumps(SCHEMA, indent=2), TEXT]
    found = {StructuredOutputs(json=schema) for schema in spelled}
    assert [one.json for one in found] == [TEXT]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "exactly one of"),
        ({"json_object": False}, "exactly one of"),
        ({"regex": "a", "choice": ["a"]}, "found regex and choice"),
        ({"json": '{"a":'}, "not valid JSON"),
        ({"json": "{" * 100_000}, "not valid JSON"),
        ({"json": [1]}, "a list is no JSON schema"),
        ({"json": {"minimum": float("inf")}}, "not JSON compliant"),
        ({"choice": []}, "no text given"),
        ({"choice": ["a", ""]}, "one of the texts is empty"),
        ({"choice": ["a", "b", "a"]}, "'a' is given twice"),
        ({"choice": [True, False]}, "True is not a text; put it in quotes"),
        ({"structural_tag": "a"}, "Extra inputs"),
    ],
)
def test_anything_but_one_usable_constraint_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        StructuredOutputs(**given)


def test_a_jobs_schema_is_read_from_its_file_once(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    (tmp_path / "job.yaml").write_text(json.dumps(job({"json": f"file://{tmp_path}/schema.json"})))
    loaded = load_job(tmp_path / "job.yaml")
    assert loaded.sampling.structured_outputs == StructuredOutputs(json=SCHEMA)
    (tmp_path / "schema.json").unlink()
    assert parse_job(loaded.model_dump(), "job.json") == loaded


@pytest.mark.parametrize(
    ("structured", "says"),
    [
        ({"json": {"not": {}}}, r'\.json: Unimplemented keys: \["not"\]'),
        ({"json": "/no/such.json"}, r"\.json: there is no file /no/such.json"),
        ({"json": __file__}, r"\.json: .*test_structured_spec.py: not valid JSON"),
        ({"json": "ftx://host/a.json"}, r"\.json: ftx://host/a.json: .*cannot be opened"),
        ({"regex": "(a"}, r"\.regex: .*unclosed group"),
        ({"grammar": "start: word"}, r'\.grammar: .*unknown name: "word"'),
        ({"choices": ["a"]}, r"\.choices: unknown key; did you mean 'choice'\?"),
        ({"regex": 5}, r"\.regex: should be a valid string; found 5"),
    ],
)
def test_a_job_whose_grammar_cannot_be_used_is_told_its_key(
    structured: dict[str, Any], says: str
) -> None:
    with pytest.raises(JobError, match=r"^job\.yaml: sampling\.structured_outputs" + says):
        parse_job(job(structured), "job.yaml")


def test_a_row_has_its_own_or_none_in_place_of_the_jobs() -> None:
    base = Sampling(structured_outputs={"choice": ["a"]})
    own = row_sampling(base, {"structured_outputs": {"json": SCHEMA}})
    assert own.structured_outputs == StructuredOutputs(json=SCHEMA)
    assert row_sampling(base, '{"structured_outputs": null}').structured_outputs is None
    kept = row_sampling(base, {"structured_outputs": None, "seed": 1})
    assert kept.structured_outputs == base.structured_outputs


@pytest.mark.parametrize(
    ("structured", "says"),
    [
        ({"json": "/etc/passwd"}, r"^own\.structured_outputs\.json: .*files are read for jobs"),
        ({"json": {"not": {}}}, r"^own\.structured_outputs\.json: Unimplemented keys"),
        ({"regex": "(a"}, r"^own\.structured_outputs\.regex: .*unclosed group"),
        ({"choice": []}, r"^own\.structured_outputs\.choice: no text given"),
    ],
)
def test_a_row_whose_grammar_cannot_be_used_is_an_error_of_its_own(
    structured: dict[str, Any], says: str
) -> None:
    columns = Columns(prompt_ids="ids", sampling="own")
    prompts = Prompts(columns, Sampling(), TOKENIZER, check=GrammarCheck())
    row = {"ids": [2, 5], "own": json.dumps({"structured_outputs": structured})}
    with pytest.raises(RowError, match=says):
        prompts.make(row)


def test_without_a_tokenizer_a_row_has_no_grammar() -> None:
    prompts = Prompts(Columns(prompt_ids="ids", sampling="own"), Sampling(), None)
    row = {"ids": [2, 5], "own": '{"structured_outputs": {"choice": ["a"]}}'}
    with pytest.raises(RowError, match=r"own\.structured_outputs: the model has no tokenizer"):
        prompts.make(row)
