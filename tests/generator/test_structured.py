"""Completions with grammars, from a random model whose logits want anything but JSON."""

import json
import re
from typing import Any

import jsonschema
import numpy as np
import pytest

from rgpipeline import Generator, Sampling
from rgpipeline.errors import RowError, UserError
from rgpipeline.generator.running_sequence import Completion
from rgpipeline.spec import StructuredOutputs
from rgpipeline.text.grammars import TextGrammars
from rgpipeline.text.tokenizer import Tokenizer
from tests.generator.conftest import GOLDEN, HF

PROMPTS = [[2, 40, 41], [2, 99], [2, 7, 8, 9, 10]]
EOS = 1
RECORD = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 4},
        "size": {"type": "integer", "minimum": -10, "maximum": 1000},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
    },
    "required": ["name", "size", "tags"],
    "additionalProperties": False,
    "x-guidance": {"whitespace_flexible": False},
}
PAIR = {"anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "null"}, "maxItems": 3}]}
EVERYTHING = {  # that sampling can do, so that one program serves all tests
    "temperature": 1.5, "top_p": 0.99, "repetition_penalty": 1.1, "logit_bias": {30: -1.0},
    "min_tokens": 2, "logprobs": 2, "max_tokens": 60, "seed": 3,
}  # fmt: skip


def asked(structured: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**EVERYTHING, "structured_outputs": structured, **more}


def is_beginning(done: Completion, structured: dict[str, Any]) -> bool:
    """Whether the grammar goes on from the completion's tokens."""
    tokenizer = Tokenizer.load(str(GOLDEN / "tokenizer"))
    grammars = TextGrammars(tokenizer, 256, [EOS])
    return not grammars.matcher(StructuredOutputs(**structured), done.token_ids).finished


@pytest.mark.parametrize("schema", [RECORD, PAIR])
def test_every_completion_that_ends_by_itself_is_valid(
    generator: Generator, schema: dict[str, Any]
) -> None:
    done = generator.generate(PROMPTS, asked({"json": schema}, n=6))
    assert {one.finish_reason for one in done} <= {"stop", "length"}
    whole = [one for one in done if one.finish_reason == "stop"]
    assert whole
    for one in whole:
        jsonschema.validate(json.loads(one.text), schema)
    for one in done:
        assert one.finish_reason == "stop" or is_beginning(one, {"json": schema})


@pytest.mark.parametrize(
    ("structured", "pattern"),
    [
        ({"choice": ["good", "bad", "ugly"]}, "good|bad|ugly"),
        ({"regex": "[0-9]{3}(-[a-f]{2})?"}, "[0-9]{3}(-[a-f]{2})?"),
        ({"grammar": 'start: "(" start ")" | /[xy]/'}, r"\(*[xy]\)*"),
    ],
)
def test_other_grammars_are_followed(
    generator: Generator, structured: dict[str, Any], pattern: str
) -> None:
    for one in generator.generate(PROMPTS, asked(structured, max_tokens=200)):
        assert one.finish_reason == "stop"
        assert re.fullmatch(pattern, one.text)


def test_log_probabilities_are_numbers_of_the_whole_distribution(generator: Generator) -> None:
    for one in generator.generate(PROMPTS, asked({"choice": ["good", "bad"]})):
        assert one.logprobs is not None
        assert np.isfinite(one.logprobs.sampled).all()
        assert np.isfinite(one.logprobs.top).all()
        assert (one.logprobs.sampled <= one.logprobs.top[:, 0]).all()


def test_a_stream_is_the_same_text(generator: Generator) -> None:
    sampling = asked({"json": RECORD}, n=1)
    [done] = generator.generate(PROMPTS[:1], sampling, ["r"])
    assert "".join(generator.stream(PROMPTS[0], sampling, "r")) == done.text


def test_a_stop_string_cuts_the_text(generator: Generator) -> None:
    [done] = generator.generate(PROMPTS[:1], asked({"choice": ["abc"]}, stop=["b"], min_tokens=0))
    assert (done.text, done.finish_reason) == ("a", "stop")


def test_min_tokens_keeps_a_text_from_ending_where_it_may(generator: Generator) -> None:
    wants_to_end = {"logit_bias": {EOS: 100.0}, "repetition_penalty": 1.0}
    for least in (2, 5):
        sampling = asked({"regex": "a*"}, min_tokens=least, **wants_to_end)
        [done] = generator.generate(PROMPTS[:1], sampling)
        assert (done.text, done.finish_reason) == ("a" * least, "stop")


def test_with_ignore_eos_a_text_ends_only_where_nothing_may_follow(generator: Generator) -> None:
    sampling = asked({"regex": "a*"}, ignore_eos=True, max_tokens=9, logit_bias={EOS: 100.0})
    [done] = generator.generate(PROMPTS[:1], sampling)
    assert (done.text, done.finish_reason) == ("a" * 9, "length")


def test_a_list_of_samplings_has_a_grammar_for_each_prompt(generator: Generator) -> None:
    each = [Sampling(**asked({"choice": [text]})) for text in ("one", "two", "three")]
    assert [one.text for one in generator.generate(PROMPTS, each)] == ["one", "two", "three"]


def test_a_schema_is_read_from_its_file(generator: Generator, tmp_path) -> None:
    (tmp_path / "schema.json").write_text('{"const": "made"}')
    [done] = generator.generate(PROMPTS[:1], asked({"json": str(tmp_path / "schema.json")}))
    assert done.text == '"made"'


@pytest.mark.parametrize(
    ("structured", "message"),
    [
        ({"regex": "(a"}, r"sampling\.structured_outputs\.regex: .*unclosed group"),
        ({"json": "nowhere.json"}, r"sampling\.structured_outputs\.json: there is no file"),
        ({}, "sampling.structured_outputs: exactly one of"),
    ],
)
def test_a_grammar_that_cannot_be_used_is_told(
    generator: Generator, structured: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        generator.generate(PROMPTS, {"structured_outputs": structured})


def test_without_a_tokenizer_there_are_no_grammars() -> None:
    bare = Generator.load(HF, dtype="float32", slots=1, prefill_chunk=16)
    with pytest.raises(RowError, match="structured_outputs needs the model's tokenizer"):
        bare.generate(PROMPTS, {"structured_outputs": {"choice": ["a"]}})
