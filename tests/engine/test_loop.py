"""The loop over an engine whose answers can be worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rgpipeline.engine.loop import Loop
from rgpipeline.records import Emission, Request, Snapshot
from rgpipeline.spec import Sampling
from tests.fake_engine import FakeEngine, by_hand

prompts = st.lists(st.integers(1, 9), min_size=1, max_size=14)
jobs = st.lists(st.tuples(prompts, st.integers(1, 20)), min_size=1, max_size=12)


def request(
    key: object, tokens: list[int], snapshot: Snapshot | None = None, **sampling
) -> Request:
    array = np.asarray(tokens, np.int32)
    return Request(key, array, Sampling(**sampling), (0, 0), snapshot)


def finish(loop: Loop) -> list[Emission]:
    emissions = []
    for _ in range(10_000):
        if loop.idle:
            return emissions
        emissions += loop.step()
    raise AssertionError("the loop never went idle")


def texts(emissions: list[Emission]) -> dict[object, list[int]]:
    joined: dict[object, list[int]] = {}
    for emission in emissions:
        joined.setdefault(emission.key, []).extend(emission.token_ids.tolist())
    return joined


@given(jobs, st.integers(1, 5), st.integers(1, 4), st.sampled_from([1, 2, 4, 8]), st.integers(0, 3))
@settings(deadline=None, max_examples=150)
def test_every_sequence_is_its_own_whatever_its_slot_and_company(work, slots, steps, chunk, cached):
    loop = Loop(FakeEngine(slots, steps, chunk), prefix_states=cached)
    loop.submit(request(i, p, max_tokens=n) for i, (p, n) in enumerate(work))
    answers = texts(finish(loop))
    assert answers == {i: by_hand(p, n) for i, (p, n) in enumerate(work)}


@given(jobs, st.integers(1, 3), st.integers(1, 6))
@settings(deadline=None, max_examples=80)
def test_drained_sequences_go_on_elsewhere_with_the_same_tokens(work, slots, blocks):
    first = Loop(FakeEngine(slots), prefix_states=2)
    requests = {i: request(i, p, max_tokens=n) for i, (p, n) in enumerate(work)}
    first.submit(requests.values())
    before = [e for _ in range(blocks) for e in first.step()] + first.drain()
    assert first.idle
    done = {e.key for e in before if e.finish}
    saved = {e.key: e.snapshot for e in before if e.snapshot}
    second = Loop(FakeEngine(slots + 1))
    for key, (prompt, limit) in enumerate(work):
        if key not in done:
            second.submit([request(key, prompt, saved.get(key), max_tokens=limit)])
    answers = texts(before + finish(second))
    assert answers == {i: by_hand(p, n) for i, (p, n) in enumerate(work)}


def test_the_last_emission_says_why_the_sequence_ended():
    loop = Loop(FakeEngine())
    loop.submit([request("stop", [5], max_tokens=9), request("length", [1, 2], max_tokens=4)])
    ends = {e.key: e.finish for e in finish(loop) if e.finish}
    assert ends == {"stop": "stop", "length": "length"}


def test_end_of_sequence_can_be_ignored():
    loop = Loop(FakeEngine())
    loop.submit([request("on", [5], max_tokens=3, ignore_eos=True)])
    assert texts(finish(loop)) == {"on": [5, 0, 0]}


def test_stop_ids_end_a_sequence_and_are_not_part_of_it():
    loop = Loop(FakeEngine())
    loop.submit([request("a", [1, 2], max_tokens=9, stop_ids=[2])])
    assert texts(finish(loop)) == {"a": [3, 6]}


def test_a_slot_whose_limit_is_certain_is_handed_on_without_waiting_for_the_read():
    engine = FakeEngine(slots=1, steps=2, chunk=4)
    loop = Loop(engine)
    loop.submit(request(i, [1, 2], max_tokens=2) for i in range(5))
    finish(loop)
    assert engine.blocks == 5


@pytest.mark.parametrize("steps_before", [0, 1, 2, 3])
def test_a_cancelled_sequence_is_never_heard_of_again(steps_before):
    loop = Loop(FakeEngine(slots=2, steps=2))
    loop.submit(request(i, [1, 2], max_tokens=30) for i in range(4))
    heard = [e for _ in range(steps_before) for e in loop.step()]
    loop.cancel(0)
    after = finish(loop)
    assert all(e.key != 0 for e in after)
    assert {k: v for k, v in texts(heard + after).items() if k} == {
        i: by_hand([1, 2], 30) for i in (1, 2, 3)
    }


def test_a_snapshot_is_the_state_after_exactly_the_tokens_emitted_with_it():
    loop = Loop(FakeEngine(slots=1, steps=2))
    loop.submit([request("a", [1, 2], max_tokens=20)])
    emissions = loop.step() + loop.step()
    loop.request_snapshot("a")
    while not (emissions and emissions[-1].snapshot):
        emissions += loop.step()
    snapshot = emissions[-1].snapshot
    told = texts(emissions)["a"]
    assert snapshot is not None
    assert snapshot.generated == len(told)
    assert int(snapshot.arrays["total"]) == 3 + sum(told[:-1])


def test_prompts_are_read_while_every_slot_is_busy():
    engine = FakeEngine(slots=1, steps=1, chunk=4)
    engine.prefill_rows = 3
    loop = Loop(engine)
    loop.submit(request(i, [1, 2, 3, 4, 5], max_tokens=90 - i) for i in range(5))
    assert loop.working_on == [0, 1, 2, 3]
    loop.step()
    assert loop.occupied == 1
    assert engine.prefilled == 4 * (1 + 3)
    assert loop.working_on == [0, 1, 2, 3]


def test_whoever_is_cancelled_at_any_moment_no_other_is_disturbed():
    prompts = [[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 9, 9], [7], [5, 5, 5, 5, 5, 1]]
    limits = [9, 30, 7, 12, 21]
    for cancelled in range(len(prompts)):
        for moment in range(12):
            loop = Loop(FakeEngine(slots=2, steps=2), prefix_states=2)
            loop.submit(request(i, p, max_tokens=limits[i]) for i, p in enumerate(prompts))
            heard = [e for _ in range(moment) for e in loop.step()]
            loop.cancel(cancelled)
            told = texts(heard + finish(loop))
            told.pop(cancelled, None)
            assert told == {
                i: by_hand(p, limits[i]) for i, p in enumerate(prompts) if i != cancelled
            }


def test_a_shared_prefix_is_prefilled_once():
    engine = FakeEngine(slots=4, chunk=4)
    loop = Loop(engine, prefix_states=8)
    head = [1, 2, 3, 4, 5, 6, 7, 8]
    loop.submit(request(i, [*head, i + 1, 1], max_tokens=2) for i in range(4))
    finish(loop)
    assert engine.prefilled == len(head) + 4


def test_samples_of_one_prompt_share_one_prefill():
    engine = FakeEngine(slots=4, chunk=4)
    loop = Loop(engine, prefix_states=8)
    loop.submit(request(i, [1, 2, 3, 4, 5, 6, 7], max_tokens=2) for i in range(4))
    finish(loop)
    assert engine.prefilled == 6


def test_the_longest_work_is_admitted_first():
    loop = Loop(FakeEngine(slots=1, steps=1))
    loop.submit(request(n, [1, 2], max_tokens=n) for n in (3, 9, 5))
    ends = [e.key for e in finish(loop) if e.finish]
    assert ends == [9, 5, 3]


@pytest.mark.parametrize(
    ("tokens", "options", "message"),
    [
        ([], {}, "no tokens"),
        ([3, 12_000], {}, "token id 12000 is outside the model's vocabulary of 10000"),
        ([3, -4], {}, "token id -4"),
        ([3], {"stop_ids": range(20)}, "stop ids"),
        ([3], {"logit_bias": {77_000: 1.0}}, "logit_bias names token id 77000"),
    ],
)
def test_a_request_that_cannot_be_done_costs_only_itself(tokens, options, message):
    loop = Loop(FakeEngine())
    loop.submit([request("bad", tokens, max_tokens=3, **options), request("good", [1, 2])])
    emissions = finish(loop)
    errors = [e.error for e in emissions if e.key == "bad"]
    assert len(errors) == 1
    assert message in (errors[0] or "")
    assert texts(emissions)["good"] == by_hand([1, 2], 256)


@pytest.mark.parametrize("longs", [1, 5])
@pytest.mark.parametrize("slots", [2, 4])
def test_short_prompts_are_answered_while_long_ones_are_read(longs, slots):
    engine = FakeEngine(slots=slots)
    loop = Loop(engine)
    loop.submit(request(f"long {i}", [1] * 20_000, max_tokens=4) for i in range(longs))
    loop.submit(request(i, [1, 2] * 30, max_tokens=4) for i in range(6))
    emissions = []
    while len({e.key for e in emissions if e.finish}) < 6:
        emissions += loop.step()
    read, whole = loop.reading
    assert 0 < read < 3000 < whole
    assert not any(isinstance(e.key, str) for e in emissions)
    assert engine.prefilled < 3000
    answers = texts(emissions + finish(loop))
    assert answers["long 0"] == by_hand([1] * 20_000, 4)
    assert answers[5] == by_hand([1, 2] * 30, 4)
