"""Texts that are read once, over an engine whose scores are minus the sum of the tokens before."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rgpipeline.engine.loop import Loop
from rgpipeline.engine.text_requests import TextRequest
from rgpipeline.read_texts import read_boundary, read_text
from tests.engine.reading import results, scores
from tests.fake_engine import FakeEngine

TEXTS = st.lists(
    st.tuples(st.lists(st.integers(1, 3), min_size=1, max_size=30), st.integers(1, 12)),
    min_size=1,
    max_size=12,
)


def requests(*texts: tuple[list[int], int]) -> list[TextRequest]:
    return [
        TextRequest(key, np.array(tokens, np.int32), min(first, len(tokens)))
        for key, (tokens, first) in enumerate(texts)
    ]


def by_hand(tokens: list[int], first: int) -> list[float]:
    return [-float(sum(tokens[:at])) for at in range(first, len(tokens))]


def scored(loop: Loop, *texts: tuple[list[int], int]) -> tuple[list[list[float]], list[int]]:
    """Each text's scores, and how many of its tokens were told of."""
    scores: list[list[float]] = [[] for _ in texts]
    told = [0] * len(texts)
    loop.submit_texts(requests(*texts))
    while loop.reading_texts:
        for one in loop.text_step():
            told[one.key] += one.tokens
            if one.values is not None:
                scores[one.key] = one.values.tolist()
    return scores, told


@given(TEXTS, st.sampled_from([1, 2, 4, 8]), st.integers(1, 5), st.integers(0, 3))
@settings(deadline=None, max_examples=150)
def test_every_text_has_its_own_scores_whatever_its_company_and_prefixes(
    texts, chunk, slots, cached
):
    loop = Loop(FakeEngine(slots=slots, chunk=chunk), prefix_states=cached)
    scores, told = scored(loop, *texts)
    assert scores == [by_hand(tokens, min(first, len(tokens))) for tokens, first in texts]
    assert told == [len(score) for score in scores]


@given(TEXTS, st.sampled_from([1, 2, 4, 8]), st.integers(1, 5), st.integers(0, 3))
@settings(deadline=None, max_examples=50)
def test_every_text_is_pooled_whatever_its_company_and_prefixes(texts, chunk, slots, cached):
    """Of the engine's hidden values: the sum of the tokens so far."""
    loop = Loop(FakeEngine(slots=slots, chunk=chunk), prefix_states=cached)
    texts = [np.asarray(tokens, np.int32) for tokens, _ in texts]
    kinds = ["last" if index % 2 else "mean" for index in range(len(texts))]
    requests = [
        TextRequest(index, text, pooling=kind)
        for index, (text, kind) in enumerate(zip(texts, kinds, strict=True))
    ]
    expected = [
        text.sum() if kind == "last" else np.cumsum(text).mean()
        for text, kind in zip(texts, kinds, strict=True)
    ]
    found = np.concatenate(results(loop, requests))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=20),
    st.lists(st.lists(st.integers(1, 9), max_size=9), min_size=1, max_size=6),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 5),
    st.integers(0, 3),
)
@settings(deadline=None, max_examples=100)
def test_completions_of_a_prompt_have_the_scores_that_each_has_alone(
    prompt, completions, chunk, slots, cached
):
    first, *others = (np.asarray(one, np.int32) for one in completions)
    tokens = np.asarray([*prompt, *first], np.int32)
    groups = [TextRequest(k, tokens, len(prompt), tuple(others)) for k in range(3)]
    loop, found, told = Loop(FakeEngine(slots=slots, chunk=chunk), prefix_states=cached), {}, 0
    loop.submit_texts(groups)
    while loop.reading_texts:
        for one in loop.text_step():
            told += one.tokens
            found |= {one.key: one} if one.whole else {}
    texts = [[*prompt, *one] for one in completions]
    expected = [score for text in texts for score in by_hand(text, len(prompt))]
    greedy = [sum(t[:at]) % 10 == t[at] for t in texts for at in range(len(prompt), len(t))]
    for key in range(3):
        assert found[key].values.tolist() == expected
        assert found[key].greedy.tolist() == greedy
    assert told == 3 * len(expected)


@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=20),
    st.lists(st.integers(1, 3), max_size=9),
    st.lists(st.lists(st.integers(1, 9), max_size=9), min_size=1, max_size=4),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 5),
    st.integers(0, 3),
)
@settings(deadline=None, max_examples=100)
def test_texts_after_a_read_one_have_the_scores_of_both_in_one(
    before, prompt, completions, chunk, slots, cached
):
    engine = FakeEngine(slots=slots, chunk=chunk)
    done = read_boundary(len(before), chunk)
    state = {"total": np.asarray(sum(before[:done]))}
    start = read_text(engine.state_kind, None, np.asarray(before, np.int32), done, state)
    given = start.continued(np.asarray(prompt, np.int32)).tail
    first, *others = (np.asarray(one, np.int32) for one in completions)
    text = TextRequest(0, np.append(given, first).astype(np.int32), len(given), tuple(others))
    after = [replace(text, key=key, start=start) for key in range(3)]
    found = results(Loop(engine, prefix_states=cached), [*after, replace(text, key=3)])
    ends = [before[done:] + prompt + one for one in completions]
    apart = np.array([score for end in ends for score in by_hand(end, len(given))])
    assert found[3].tolist() == apart.tolist()
    assert [one.tolist() for one in found[:3]] == [(apart - sum(before[:done])).tolist()] * 3


@pytest.mark.parametrize("cached", [0, 8])
def test_completions_read_their_prompt_once_even_if_no_states_are_kept(cached):
    engine = FakeEngine(slots=8, chunk=4)
    prompt = np.arange(1, 18, dtype=np.int32)  # split at 16
    others = tuple(np.array([k, k], np.int32) for k in range(3))
    text = TextRequest(0, np.append(prompt, [5, 5]).astype(np.int32), 17, others)
    (values,) = results(Loop(engine, prefix_states=cached), [text])
    assert (len(values), engine.prefilled) == (8, 16 + 4 * 2)


class ReadingEngine(FakeEngine):
    """Counts the tokens whose hidden values it is asked for."""

    read_tokens = 0

    def read(self, buffer, pack):
        self.read_tokens += int(pack.lengths.sum())
        return super().read(buffer, pack)


def test_tokens_before_the_first_scored_chunk_go_through_the_program_for_prompts():
    engine = ReadingEngine(chunk=4)
    scored(Loop(engine), ([1, 2] * 9 + [3], 18), ([1] * 7, 1))  # splits at 16 of 18, at 0 of 6
    assert (engine.prefilled, engine.read_tokens) == (18 + 6, 2 + 6)


def test_texts_of_one_token_have_no_scores():
    assert [s.tolist() for s in scores(Loop(FakeEngine()), [np.array([1], np.int32)])] == [[]]


def test_every_piece_of_a_long_text_is_told_of_as_it_is_scored():
    loop = Loop(FakeEngine(chunk=4))
    loop.submit_texts(requests(([1] * 11, 1)))
    told = []
    while loop.reading_texts:
        told += [one.tokens for one in loop.text_step()]
    assert told == [4, 4, 2]


@pytest.mark.parametrize(
    ("texts", "read"),
    [
        ([([1, 2] * 10 + [i], 20) for i in range(1, 5)], 18 + 4 * 2),  # one prompt, 4 completions
        ([([1, 2] * 11 + [i], 1) for i in range(1, 5)], 20 + 4 * 2),  # a head that is scored, too
    ],
)
def test_a_shared_beginning_is_read_once(texts, read):
    engine = FakeEngine(chunk=4)
    scored(Loop(engine, prefix_states=8), *texts)
    assert engine.prefilled == read


def test_short_texts_share_a_call():
    engine = FakeEngine(slots=4, chunk=4)
    loop = Loop(engine)
    loop.submit_texts(requests(*[([1, 2, 3], 1)] * 8))
    calls = 0
    while loop.reading_texts:
        calls += bool(loop._texts._waiting or loop._texts._reading)
        loop.text_step()
    assert calls == 2


def test_a_dropped_text_is_never_heard_of_again_and_others_keep_its_prefix():
    texts = [([1, 2] * 6, 1), ([1, 2] * 6 + [3], 1)]
    for steps in range(5):
        loop = Loop(FakeEngine(chunk=4), prefix_states=4)
        loop.submit_texts(requests(*texts))
        before = [one for _ in range(steps) for one in loop.text_step()]
        loop.cancel(0)
        after = []
        while loop.reading_texts:
            after += loop.text_step()
        assert all(one.key == 1 for one in after)
        (whole,) = [
            one.values.tolist()
            for one in before + after
            if one.key == 1 and one.tokens > 1 and one.values is not None
        ]
        assert whole == by_hand(*texts[1])


def test_drained_texts_are_dropped():
    loop = Loop(FakeEngine(chunk=4))
    loop.submit_texts(requests(([1] * 11, 1), ([2] * 11, 1)))
    loop.text_step()
    loop.drain()
    assert [
        one for one in iter(lambda: loop.text_step() if loop.reading_texts else None, None) if one
    ] == []
