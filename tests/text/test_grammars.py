"""Masks against other people's words: MaskBench's instances, and jsonschema as the judge."""

import json
import random
import re
from collections.abc import Callable
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from llguidance import LLExecutor, LLMatcher
from llguidance.numpy import fill_next_token_bitmask_par

from rgpipeline.errors import RowError
from rgpipeline.spec import StructuredOutputs
from rgpipeline.text import grammars
from rgpipeline.text.grammars import TextGrammars
from rgpipeline.text.tokenizer import Tokenizer
from tests.text.conftest import GOLDEN
from tests.text.grammar_walks import Walks
from tests.text.json_tokenizers import opened, trained

MASKBENCH = json.loads((GOLDEN.parent / "structured" / "maskbench.json").read_text())
KINDS = ["tokenizer.model", "tokenizer.json"]
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="session")
def both(tokenizer: Tokenizer) -> dict[str, Walks]:
    return {"tokenizer.model": Walks(tokenizer), "tokenizer.json": Walks(opened(trained()))}


@pytest.fixture(scope="session")
def walks(both: dict[str, Walks]) -> Walks:
    return both["tokenizer.model"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MASKBENCH)
def test_instances_are_accepted_exactly_if_they_are_valid(
    both: dict[str, Walks], kind: str, name: str
) -> None:
    schema, tests = MASKBENCH[name]["schema"], MASKBENCH[name]["tests"]
    if LLMatcher.validate_grammar(LLMatcher.grammar_from_json_schema(schema)):
        assert both[kind].fault(json=schema).startswith("structured_outputs.json: ")
        return
    verdicts = [both[kind].accepts(json.dumps(test["data"]), json=schema) for test in tests]
    assert verdicts == [test["valid"] for test in tests]


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=6)
leaves = st.one_of(
    st.sampled_from([{"type": "string", "maxLength": 8}, {"type": "boolean"}, {"type": "null"}]),
    st.builds(
        lambda low, size: {"type": "integer", "minimum": low, "maximum": low + size},
        st.integers(-500, 500),
        st.integers(0, 200),
    ),
    st.builds(lambda values: {"enum": values}, st.lists(texts | st.integers(), min_size=1)),
    st.just({"type": "string", "pattern": "^[a-f]{1,3}(-[0-9]+)?$", "maxLength": 9}),
)
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(
            lambda items, most: {"type": "array", "items": items, "maxItems": most},
            inner, st.integers(0, 3),
        ),
        st.builds(
            lambda properties: {
                "type": "object",
                "properties": properties,
                "required": list(properties)[::2],
                "additionalProperties": False,
            },
            st.dictionaries(texts, inner, max_size=3),
        ),
        st.builds(lambda options: {"anyOf": options}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=5,
)  # fmt: skip


@given(schema=schemas, seed=st.integers(0, 2**32), kind=st.sampled_from(KINDS))
@settings(max_examples=40, deadline=None)
def test_any_walk_that_ends_by_itself_is_valid(
    both: dict[str, Walks], schema: Any, seed: int, kind: str
) -> None:
    walks, chance = both[kind], random.Random(seed)
    tokens, whole = walks.walk(lambda allowed: chance.choice(allowed), 400, json=schema)
    assume(whole)
    jsonschema.validate(json.loads(walks.tokenizer.decode(tokens)), schema)


@given(schema=schemas, seed=st.integers(0, 2**32), kind=st.sampled_from(KINDS))
@settings(max_examples=20, deadline=None)
def test_a_matcher_made_from_the_tokens_so_far_gives_the_same_masks(
    both: dict[str, Walks], schema: Any, seed: int, kind: str
) -> None:
    walks, chance, tokens = both[kind], random.Random(seed), list[int]()
    structured = StructuredOutputs(json=schema)
    matcher = walks.grammars.matcher(structured, [])
    while not matcher.finished and len(tokens) < 25:
        again = walks.grammars.matcher(structured, tokens)
        allowed = walks.allowed(again)
        assert walks.allowed(matcher) == allowed
        token = chance.choice(allowed)
        if token == walks.eos:
            return
        tokens.append(token)
        matcher.consume(token)
    assert matcher.finished == walks.grammars.matcher(structured, tokens).finished


@pytest.mark.parametrize("kind", KINDS)
def test_each_token_is_judged_by_the_text_that_it_is_decoded_to(
    both: dict[str, Walks], kind: str
) -> None:
    """Spaces, newlines, bytes, several spaces in one piece: all by `decode`."""
    walks = both[kind]
    pattern = re.compile(r"[ \n\ta-z<>{é]*", re.ASCII)
    matcher = walks.grammars.matcher(StructuredOutputs(regex=r"[ \n\ta-z<>{é]*"), [])
    matcher.consume(walks.tokenizer.encode("x", bos=False)[0])
    allowed = {*walks.allowed(matcher)} - {walks.eos}
    decode = walks.tokenizer.decode
    expected = {
        index
        for index in range(walks.tokenizer.vocab_size)
        if decode([index]) and pattern.fullmatch(decode([index]))
    }
    turns = {walks.tokenizer.piece_to_id(f"<{name}_of_turn>") for name in ("start", "end")}
    first_byte_of_é = {walks.tokenizer.piece_to_id("<0xC3>")}
    assert allowed - first_byte_of_é == expected - turns
    assert first_byte_of_é <= allowed


@pytest.mark.parametrize("structured", [{"json_object": True}, {"regex": "(?s:.*)"}])
def test_control_tokens_and_ids_without_a_piece_are_never_allowed(
    walks: Walks, structured: dict[str, Any]
) -> None:
    matcher = walks.grammars.matcher(StructuredOutputs(**structured), [])
    tokenizer = walks.tokenizer
    special = {tokenizer.bos_id, tokenizer.unk_id, tokenizer.pad_id}
    special |= {tokenizer.piece_to_id("<end_of_turn>"), *range(tokenizer.vocab_size, walks.vocab)}
    assert special.isdisjoint(walks.allowed(matcher))


def test_the_sequence_may_end_exactly_where_the_grammar_accepts(walks: Walks) -> None:
    matcher = walks.grammars.matcher(StructuredOutputs(regex="ab*"), [])
    ends = []
    for token in walks.tokenizer.encode("abb", bos=False):
        ends.append(walks.eos in walks.allowed(matcher))
        matcher.consume(token)
    assert ends == [False, *[True] * (len(ends) - 1)]
    assert not matcher.finished


def test_a_grammar_that_is_complete_is_finished_without_a_further_token(walks: Walks) -> None:
    tokens = walks.tokenizer.encode('{"name": "Bo", "age": 4}', bos=False)
    assert walks.grammars.matcher(StructuredOutputs(json=PERSON), tokens).finished
    assert not walks.grammars.matcher(StructuredOutputs(json=PERSON), tokens[:-1]).finished


def test_a_sequence_ends_by_its_own_ends_where_they_have_no_text(walks: Walks) -> None:
    turn = walks.tokenizer.piece_to_id("<end_of_turn>")
    letter = walks.tokenizer.encode("b", bos=False)[0]
    structured, begun = StructuredOutputs(regex="a[0-9]*"), walks.tokenizer.encode("a", bos=False)
    for ends, found in [({turn, letter}, {turn}), (set(), set()), ({walks.eos}, {walks.eos})]:
        matcher = walks.grammars.matcher(structured, begun, ends)
        assert {turn, letter, walks.eos} & {*walks.allowed(matcher)} == found


def test_a_model_without_an_end_of_sequence_has_none_in_its_masks(tokenizer: Tokenizer) -> None:
    grammars = TextGrammars(tokenizer, tokenizer.vocab_size, [])
    matcher = grammars.matcher(StructuredOutputs(regex="[0-9]*"), [])
    rows = np.zeros((1, tokenizer.vocab_size // 32), np.int32)
    assert grammars.fill([matcher], rows) == [None]
    assert not rows[0, tokenizer.eos_id // 32] >> tokenizer.eos_id % 32 & 1


def test_the_first_token_is_judged_without_the_space_that_its_text_drops(
    variant: Callable[..., Tokenizer],
) -> None:
    """Of a tokenizer with a dummy prefix: ▁the is "the" at the start, and " the" after it."""
    walks = Walks(variant(add_dummy_prefix=True))
    tokenizer, the = walks.tokenizer, walks.tokenizer.piece_to_id("▁the")
    assert tokenizer.decode([the, the]) == "the the"
    assert walks.accepts("the the", regex="the the")
    matcher = walks.grammars.matcher(StructuredOutputs(regex="( the)+"), [])
    assert the not in walks.allowed(matcher)


MIXED: list[dict[str, Any]] = [
    {"json": PERSON},
    {"choice": ["good", "bad"]},
    {"regex": "[0-9]+"},
    {"grammar": 'start: "a" start "b" | "c"'},
    {"json": PERSON},
    {"json_object": True},
]


def test_masks_of_many_matchers_at_once_are_those_of_each_alone(walks: Walks) -> None:
    matchers = [walks.grammars.matcher(StructuredOutputs(**one), []) for one in MIXED]
    rows, faults = walks.masks(matchers)
    alone = [
        walks.masks([walks.grammars.matcher(StructuredOutputs(**one), [])])[0] for one in MIXED
    ]
    assert faults == [None] * len(MIXED)
    np.testing.assert_array_equal(rows, np.concatenate(alone))


def test_rows_without_a_matcher_stay_as_they_are(walks: Walks) -> None:
    structured = StructuredOutputs(regex="[0-9]+")
    matchers = [walks.grammars.matcher(structured, []) for _ in range(2)]
    alone, _ = walks.masks(matchers[:1])
    rows = np.full((4, alone.shape[1]), -1, np.int32)
    assert walks.grammars.fill([None, matchers[0], None, matchers[1]], rows) == [None] * 4
    assert (rows[[0, 2]] == -1).all()
    np.testing.assert_array_equal(rows[[1, 3]], np.repeat(alone, 2, axis=0))


def test_matchers_with_the_same_grammar_and_tokens_get_one_mask(
    walks: Walks, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def fill(executor: LLExecutor, work: list[tuple[LLMatcher, int]], rows: np.ndarray) -> None:
        made.extend(row for _, row in work)
        fill_next_token_bitmask_par(executor, work, rows)

    monkeypatch.setattr(grammars, "fill_next_token_bitmask_par", fill)
    structured = StructuredOutputs(json=PERSON)
    begun = walks.tokenizer.encode('{"name": "J', bos=False)
    matchers = [walks.grammars.matcher(structured, begun[: 1 + i % 2]) for i in range(40)]
    rows, faults = walks.masks(matchers)
    assert len(made) <= 2 * grammars._cores()
    assert faults == [None] * 40
    for start in (0, 1):
        assert (rows[start::2] == rows[start]).all()
    assert (rows[0] != rows[1]).any()


ODD = [
    "a/b",
    "a\nb",
    "tab\t",
    "quote\"'",
    "back\\slash",
    "é",
    "日本",
    "a|b",
    "(x)",
    "x y",
    "<b>",
    "[1]*",
]


@pytest.mark.parametrize("choice", ODD)
def test_a_choice_is_taken_literally(walks: Walks, choice: str) -> None:
    assert walks.accepts(choice, choice=ODD)
    assert not walks.accepts(choice + "x", choice=ODD)


def test_a_forced_text_is_split_as_the_tokenizer_splits_it(walks: Walks) -> None:
    text = "In the beginning God created the heaven and the earth."
    tokens, whole = walks.walk(lambda allowed: allowed[0], 99, choice=[text])
    assert (tokens, whole) == (walks.tokenizer.encode(text, bos=False), True)


def test_a_forced_text_that_names_a_control_token_stays_text(both: dict[str, Walks]) -> None:
    for walks in both.values():
        tokens, whole = walks.walk(lambda allowed: allowed[0], 99, choice=["a<eos>b<end_of_turn>"])
        assert whole
        assert walks.eos not in tokens
        assert walks.tokenizer.decode(tokens) == "a<eos>b<end_of_turn>"


def test_tokens_that_a_grammar_does_not_accept_are_an_error(walks: Walks) -> None:
    wrong = walks.tokenizer.encode("x", bos=False)
    with pytest.raises(RowError, match=r"structured_outputs\.regex: token \d+: "):
        walks.grammars.matcher(StructuredOutputs(regex="[0-9]+"), wrong)


def nested(depth: int) -> dict[str, Any]:
    chain = {f"d{i}": {"properties": {"a": {"$ref": f"#/$defs/d{i + 1}"}}} for i in range(depth)}
    return {"$ref": "#/$defs/d0", "$defs": {**chain, f"d{depth}": {"type": "string"}}}


HOSTILE: list[tuple[dict[str, Any], str]] = [
    ({"json": nested(30_000)}, "it is nested too deeply"),
    ({"json": {"description": "x" * 5_000_000}}, "4,194,304 are the limit"),
    ({"json": {"not": {}}}, 'Unimplemented keys: ["not"]'),
    ({"json": False}, "Unsatisfiable schema"),
    ({"json": {"type": "integer", "minimum": 2, "maximum": 1}}, "Unsatisfiable schema"),
    ({"json": {"$ref": "http://127.0.0.1:9/a.json"}}, "does not fetch resources"),
    ({"json": {"$ref": "#"}}, "it accepts no text"),
    ({"json": {"type": "integer", "multipleOf": 999_999_937}}, "fuel exhausted"),
    ({"json": {"enum": [f"{i} bottles" for i in range(90_000)]}}, "too big"),
    ({"regex": "(" * 9_000 + "a" + ")" * 9_000}, "invalid regex"),
    ({"regex": "(?=a)b"}, "look-around"),
    ({"regex": "[^\\s\\S]"}, "it accepts no text"),
    ({"regex": ""}, "it accepts only the empty text"),
    ({"grammar": "start: word"}, 'unknown name: "word"'),
    ({"grammar": "start: " + "(" * 9_000 + '"a"' + ")" * 9_000}, "too deeply nested"),
    ({"grammar": "start: start"}, "it accepts no text"),
]


@pytest.mark.parametrize(("structured", "reason"), HOSTILE, ids=range(len(HOSTILE)))
def test_a_grammar_that_cannot_be_used_is_refused_with_the_reason(
    walks: Walks, structured: dict[str, Any], reason: str
) -> None:
    fault = walks.fault(**structured)
    assert fault.startswith(f"structured_outputs.{next(iter(structured))}: ")
    assert reason in fault
    assert len(fault) < 400
    assert "\n" not in fault


CATASTROPHES: list[dict[str, Any]] = [
    {"regex": "(a|a)*{1000}"},
    {"regex": "((a*)*)*b"},
    {"regex": "(.{0,5000}x){0,5000}"},
    {"regex": "(.*a.{200})|(.*b.{200})"},
    {"json": {"type": "string", "maxLength": 10_000_000}},
    {"json": {"$ref": "#/$defs/a", "$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}}},
    {"choice": [f"label {i}" for i in range(5_000)]},
]


@pytest.mark.parametrize("structured", CATASTROPHES, ids=range(len(CATASTROPHES)))
def test_what_would_blow_up_elsewhere_is_followed(walks: Walks, structured: dict[str, Any]) -> None:
    chance = random.Random(0)
    tokens, whole = walks.walk(lambda allowed: chance.choice(allowed), 30, **structured)
    assert tokens or whole


def test_a_mask_that_takes_too_long_is_an_error_of_its_own_row(walks: Walks) -> None:
    many = StructuredOutputs(regex="((((((a{1,100}){1,100}){1,100}){1,100}){1,100}))")
    good = walks.grammars.matcher(StructuredOutputs(choice=["yes", "no"]), [])
    bad, chance = walks.grammars.matcher(many, []), random.Random(0)
    for _ in range(200):
        rows, faults = walks.masks([bad, good])
        assert faults[1] is None
        if faults[0] is not None:
            break
        bad.consume(chance.choice([t for t in walks.tokens_in(rows[0]) if t != walks.eos]))
    assert faults[0] == "structured_outputs.regex: lexer error: too many expressions constructed"
