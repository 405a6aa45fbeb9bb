"""Sequences with grammars in the loop, over an engine whose answers can be worked out by hand."""

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rgpipeline.engine.loop import Loop
from rgpipeline.engine.read_order import ReadOrder
from rgpipeline.engine.step_tuner import StepTuner
from rgpipeline.errors import RowError
from rgpipeline.records import Emission, Request, Snapshot
from tests.engine.test_loop import finish, texts
from tests.engine.test_step_tuner import Timed
from tests.fake_engine import FakeEngine, by_hand
from tests.fake_grammars import FakeGrammars, Rule, WithGrammar


def loop_of(engine: FakeEngine, **options) -> Loop:
    return Loop(engine, grammars=FakeGrammars(engine.vocab_size, engine.eos_ids), **options)


def request(
    key: object,
    tokens: Sequence[int],
    rule: Rule | None = None,
    snapshot: Snapshot | None = None,
    **sampling,
) -> Request:
    sampling = WithGrammar(structured_outputs=rule, **sampling)
    return Request(key, np.asarray(tokens, np.int32), sampling, (0, 0), snapshot)


def masked_by_hand(prompt: Sequence[int], rule: Rule | None, limit: int) -> tuple[list[int], str]:
    """What the fake engine must answer, and why it ends."""
    if rule is None:
        answer = by_hand(prompt, limit)
        return answer, "length" if len(answer) == limit else "stop"
    total, answer = sum(prompt), list[int]()
    while len(answer) < rule.tokens:
        if len(answer) == limit:
            return answer, "length"
        allowed = rule.allows(len(answer), [0], 10)
        token = next(d % 10 for d in range(total, total + 10) if allowed[d % 10])
        if token == 0:
            return answer, "stop"
        answer.append(token)
        total += token
    return answer, "stop"


def always(first: bool) -> ReadOrder:
    """Steps are read before the next one is dispatched, or never."""
    order = ReadOrder(clock=lambda: 0.0)
    order.choose = lambda: first  # type: ignore[method-assign]
    return order


def ends(emissions: list[Emission]) -> dict[object, str]:
    return {one.key: one.finish for one in emissions if one.finish}


rules = st.none() | st.builds(
    Rule, st.integers(1, 4), st.integers(1, 9), st.none() | st.integers(0, 4)
)
prompts = st.lists(st.integers(1, 9), min_size=1, max_size=9)
jobs = st.lists(st.tuples(prompts, rules, st.integers(1, 12)), min_size=1, max_size=10)


@given(jobs, st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**32 - 1).map(Random))
@settings(max_examples=150)
def test_rows_with_and_without_grammars_come_and_go_and_each_is_as_it_is_alone(
    work, slots, steps, random
):
    """In whichever order steps are read and dispatched."""
    order = ReadOrder()
    order.choose = lambda: random.random() < 0.5  # type: ignore[method-assign]
    loop = loop_of(FakeEngine(slots, steps), read_order=order)
    waiting, emissions = list(enumerate(work)), []
    while waiting or not loop.idle:
        for _ in range(random.randint(0, len(waiting))):
            key, (prompt, rule, limit) = waiting.pop()
            loop.submit([request(key, prompt, rule, max_tokens=limit)])
        emissions += loop.step()
    answers, finishes = texts(emissions), ends(emissions)
    assert {key: (answers[key], finishes[key]) for key in answers} == {
        key: masked_by_hand(*row) for key, row in enumerate(work)
    }


@given(jobs, st.integers(1, 3), st.integers(1, 6))
@settings(max_examples=80)
def test_drained_and_resumed_at_any_step_the_answers_are_the_same(work, slots, every):
    emissions, snapshots = [], {}
    while unfinished := [key for key in range(len(work)) if key not in ends(emissions)]:
        loop = loop_of(FakeEngine(slots))
        for key in unfinished:
            prompt, rule, limit = work[key]
            loop.submit([request(key, prompt, rule, snapshots.get(key), max_tokens=limit)])
        new = [one for _ in range(every) for one in loop.step()] + loop.drain()
        snapshots |= {one.key: one.snapshot for one in new if one.snapshot}
        emissions += new
        every += 1
    answers, finishes = texts(emissions), ends(emissions)
    assert {key: (answers[key], finishes[key]) for key in answers} == {
        key: masked_by_hand(*row) for key, row in enumerate(work)
    }


def test_a_snapshot_on_the_way_holds_the_tokens_since_the_row_began():
    loop, heard = loop_of(FakeEngine(slots=1)), []
    loop.submit([request("a", [1, 2], Rule(2, 9), max_tokens=20)])
    while not (heard and heard[-1].snapshot):
        loop.request_snapshot("a")
        heard += loop.step()
    saved = heard[-1].snapshot
    assert saved.arrays["generated"].dtype == np.int32
    assert saved.arrays["generated"].tolist() == texts(heard)["a"]
    resumed = loop_of(FakeEngine())
    resumed.submit([request("a", [1, 2], Rule(2, 9), saved, max_tokens=20)])
    assert texts(heard + finish(resumed))["a"] == masked_by_hand([1, 2], Rule(2, 9), 20)[0]


def test_without_a_grammar_in_a_slot_steps_are_blocks():
    engine = FakeEngine(slots=2, steps=3)
    loop = loop_of(engine, read_order=always(True))
    loop.submit([request("plain", [1, 2], max_tokens=30), request("ruled", [3], Rule(3, 4))])
    finish(loop)
    assert engine.masked_steps == 4
    assert engine.blocks >= 8


def test_a_row_that_its_grammar_ends_costs_no_forward_after_its_last_token():
    engine = FakeEngine(slots=2)
    loop = loop_of(engine, read_order=always(True))
    loop.submit(request(key, [1], Rule(2, 4)) for key in range(2))
    finish(loop)
    assert (engine.forwards, engine.masked_steps) == (4, 4)


@pytest.mark.parametrize(("first", "steps"), [(True, 12), (False, 14)])
def test_read_first_the_slot_of_an_ended_row_has_the_next_row_in_the_next_step(first, steps):
    engine = FakeEngine(slots=2)
    loop = loop_of(engine, read_order=always(first))
    loop.submit(request(key, [1], Rule(2, tokens)) for key, tokens in enumerate((12, 4, 4, 4)))
    finish(loop)
    assert engine.masked_steps == steps


def test_a_grammar_that_ends_at_the_limit_is_whole():
    loop = loop_of(FakeEngine())
    loop.submit([request("whole", [1], Rule(2, 4), max_tokens=4)])
    assert ends(finish(loop)) == {"whole": "stop"}


def test_a_text_that_is_whole_from_the_start_ends_without_a_token():
    loop = loop_of(FakeEngine(slots=1))
    loop.submit([request("none", [1], Rule(2, 0)), request("next", [1, 2], max_tokens=5)])
    emissions = finish(loop)
    assert ends(emissions) == {"none": "stop", "next": "length"}
    assert texts(emissions) == {"none": [], "next": by_hand([1, 2], 5)}


@pytest.mark.parametrize(
    ("rule", "tokens", "message"),
    [
        (Rule(0, 5), [], "no token is a multiple of 0"),
        (Rule(2, 5, breaks=0), [], "the rule broke"),
        (Rule(2, 5, breaks=2), [4, 8], "the rule broke"),
        (Rule(2, 5, rejects=8), [4], "does not go on by 8"),
    ],
)
def test_a_grammar_that_fails_costs_its_row_only(rule, tokens, message):
    loop = loop_of(FakeEngine(slots=2))
    loop.submit([request("bad", [4], rule), request("good", [1, 2], max_tokens=20)])
    emissions = finish(loop)
    errors = [one.error for one in emissions if one.error]
    assert len(errors) == 1
    assert message in errors[0]
    assert texts(emissions) == {"bad": tokens, "good": by_hand([1, 2], 20)}


def test_masks_stay_as_they_are_since_the_device_may_read_them_later():
    engine, given = FakeEngine(slots=2), list[tuple[np.ndarray, bytes]]()

    def draw(state, features, masks):
        given.append((masks, masks.tobytes()))
        return FakeEngine.draw(engine, state, features, masks)

    engine.draw = draw  # type: ignore[method-assign]
    loop = loop_of(engine)
    rows = {"a": Rule(2, 9), "b": None, "c": Rule(3, 9)}
    loop.submit(request(key, [2], rule, max_tokens=9) for key, rule in rows.items())
    finish(loop)
    assert len({before for _, before in given}) == 2
    assert all(masks.tobytes() == before for masks, before in given)


def test_grammars_that_fail_are_no_sign_of_bad_weights():
    loop = loop_of(FakeEngine(slots=2))
    loop.submit(request(key, [4], Rule(2, 5, breaks=0)) for key in range(40))
    assert set(ends(finish(loop)).values()) == {"error"}


def test_a_loop_without_grammars_refuses_rows_that_need_one():
    loop = Loop(FakeEngine())
    with pytest.raises(RowError, match="structured_outputs needs the model's tokenizer"):
        loop.check(request("a", [1], Rule(2, 5)))
    loop.submit([request("a", [1], Rule(2, 5))])
    assert ends(loop.step()) == {"a": "error"}


@pytest.mark.parametrize("moment", range(5))
def test_a_cancelled_sequence_leaves_the_others_as_they_are(moment):
    loop = loop_of(FakeEngine(slots=2))
    work = {"a": ([1], Rule(2, 9)), "b": ([2], Rule(3, 9)), "c": ([3], None)}
    loop.submit(request(key, *row, max_tokens=12) for key, row in work.items())
    heard = [one for _ in range(moment) for one in loop.step()]
    loop.cancel("b")
    told = texts(heard + finish(loop))
    assert {key: told[key] for key in "ac"} == {
        key: masked_by_hand(*work[key], 12)[0] for key in "ac"
    }


def test_steps_with_masks_are_not_timed():
    """By the fake's clock they take no time at all: one step a call would seem free."""
    engine = Timed(1.0)
    tuner = StepTuner(None, clock=lambda: engine.seconds)
    loop = loop_of(engine, tuner=tuner)
    for key in range(100):
        rule = Rule(1, 9, 9) if key % 5 == 0 else None
        loop.submit([request(key, [1, 2, 3], rule, max_tokens=400, ignore_eos=True)])
    finish(loop)
    assert tuner.steps == 16
