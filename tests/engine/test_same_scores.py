"""A text's results are the same bytes in any company.

Scores depend on the text and its first scored token, pooled values on the text.

The values themselves are held against the official library's in tests/model/test_golden_generator
and tests/generator/test_embed.
"""

from functools import cache
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rgpipeline.engine.loop import Loop
from rgpipeline.engine.text_requests import Pooling, TextRequest
from rgpipeline.read_texts import ReadText
from rgpipeline.records import Request
from rgpipeline.spec import Sampling
from tests.engine.reading import results
from tests.engine.test_same_bytes import HELD, engine

# Tokens of a shared head and of its own, its seed, the first scored token or the pooling.
Text = tuple[int, int, int, int | Pooling]


def request(key: int, text: Text) -> TextRequest:
    head, own, seed, wanted = text
    shared = np.random.default_rng(0).integers(3, 256, head)
    rest = np.random.default_rng(seed + 1).integers(3, 256, own)
    tokens = np.concatenate([[2], shared, rest]).astype(np.int32)
    if isinstance(wanted, str):
        return TextRequest(key, tokens, pooling=wanted)
    return TextRequest(key, tokens, min(wanted, len(tokens)))


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("prompt", [1, 16, 20, 66])
def test_completions_of_one_prompt_have_the_bytes_of_pairs_scored_one_by_one(held, prompt):
    texts = [(0, 65 + own, seed, prompt) for seed, own in enumerate((3, 12, 1))]
    pairs = [request(0, text) for text in texts]
    tails = [np.concatenate([pairs[0].tokens[:1], one.tokens[prompt:]]) for one in pairs]
    head = pairs[0].tokens[:prompt]
    pairs = [TextRequest(0, np.concatenate([head, tail]), prompt) for tail in tails]
    together = TextRequest(0, pairs[0].tokens, prompt, tuple(tails[1:]))
    (found,) = results(Loop(engine(held)), [together])
    apart = [results(Loop(engine(held)), [pair])[0] for pair in pairs]
    assert found.tobytes() == np.concatenate(apart).tobytes()


def read(loop: Loop, tokens: NDArray[np.int32]) -> ReadText:
    loop.submit([Request(0, tokens, Sampling(max_tokens=0), (0, 0), keep_read=True)])
    while True:
        for emission in loop.step():
            if emission.read is not None:
                return emission.read


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize(("cut", "prompt"), [(1, 1), (32, 70), (33, 33), (70, 71), (96, 103)])
def test_completions_after_a_read_text_have_the_bytes_that_they_have_in_one_text(held, cut, prompt):
    text, second, third = (request(0, (0, 140, seed, prompt)).tokens for seed in range(3))
    others = second[:50], third[:5]
    whole = TextRequest(0, text, prompt, others)
    start = read(Loop(engine(held)), text[:cut])
    rest, given = start.continued(text[cut:]).tail, len(start.continued(text[cut:prompt]).tail)
    after = [TextRequest(key, rest, given, others, start) for key in range(2)]
    (wanted,) = results(Loop(engine(held)), [whole])
    for prefixes in (0, 8):
        found = results(Loop(engine(held), prefix_states=prefixes), after)
        assert [one.tobytes() for one in found] == [wanted.tobytes()] * 2


@cache
def alone(text: Text, held: str) -> bytes:
    (found,) = results(Loop(engine(held)), [request(0, text)])
    return found.tobytes()


@pytest.mark.parametrize("held", HELD)
@given(
    texts=st.lists(
        st.tuples(
            st.sampled_from([0, 33, 70, 96]),
            st.integers(0, 40),
            st.integers(0, 2),
            st.sampled_from([1, 1, 20, 35, 66, "mean", "mean", "last"]),
        ),
        min_size=1,
        max_size=10,
    ),
    random=st.integers(0, 2**32 - 1).map(Random),
    prefixes=st.sampled_from([0, 1, 8]),
)
@settings(max_examples=10, deadline=None)
def test_in_any_order_and_company_with_or_without_shared_prefixes(held, texts, random, prefixes):
    loop = Loop(engine(held), prefix_states=prefixes)
    waiting = random.sample(range(len(texts)), len(texts))
    found = [b""] * len(texts)
    while waiting or loop.reading_texts:
        arriving = [waiting.pop() for _ in range(random.randint(0, len(waiting)))]
        loop.submit_texts(request(key, texts[key]) for key in arriving)
        for one in loop.text_step():
            if one.values is not None:
                found[one.key] = one.values.tobytes()
    assert found == [alone(text, held) for text in texts]
