"""Masks over the vocabulary in the sampler, against NumPy, and in an engine's slots."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rgpipeline.engine.loop import Loop
from rgpipeline.engine.sampling.masks import masks_of_part
from rgpipeline.engine.sampling.reductions import allowed_argmax
from rgpipeline.engine.sampling.sampler import Sampled, sample
from rgpipeline.engine.slot_fields import IN_PROMPT
from rgpipeline.engine.step_tuner import StepTuner
from rgpipeline.model.griffin_state import Position
from rgpipeline.records import Request
from rgpipeline.spec import Sampling
from tests.engine.test_same_bytes import CHANCE, Answer, AnySteps, Row, engine
from tests.engine.test_sampling import ALL, DRAWS, assert_distributed, exact, state
from tests.fake_grammars import FakeGrammars, Rule, WithGrammar

ROWS, VOCAB = 8, 70
BANNED = 5
_jitted = jax.jit(partial(sample, features=ALL))


def packed(allowed: np.ndarray) -> np.ndarray:
    """Bits [s, v] as bytes; those past the vocabulary are set, and mean nothing."""
    bits = np.pad(allowed, ((0, 0), (0, -allowed.shape[1] % 32)), constant_values=True)
    return np.packbits(bits, axis=1, bitorder="little")


def run(
    logits, allowed, sampling: Sampling, *, banned: bool = False, seen=None, bias=None
) -> Sampled:
    rows = len(logits)
    slots = state(rows, VOCAB, sampling, seen=seen, bias=bias)
    position = Position(*(jnp.full((rows,), p, jnp.int32) for p in (0, 5, 0, 0)))
    bans = jnp.full((rows, 1), BANNED if banned else -1, jnp.int32)
    return _jitted(jnp.asarray(logits), slots, position, bans, chosen=None, masks=packed(allowed))


logits_of = st.sampled_from([1.0, 30.0, 1e30, 3e38]).flatmap(
    lambda scale: st.integers(0, 2**32 - 1).map(
        lambda seed: np.random.default_rng(seed).standard_normal(VOCAB).clip(-1, 1) * scale
    )
)
samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 1e-30, 0.3, 1.0, 100.0]),
    top_k=st.sampled_from([0, 1, 3]),
    top_p=st.sampled_from([1.0, 0.5, 1e-6]),
    min_p=st.sampled_from([0.0, 0.9]),
)


@given(
    logits=logits_of,
    ids=st.sets(st.integers(0, VOCAB - 1), min_size=1),
    sampling=samplings,
    banned=st.booleans(),
    bias=st.sampled_from([0.0, -1e30, -3.4028234e38, -np.inf]),
)
@settings(max_examples=100)
def test_a_token_drawn_is_always_an_allowed_one(logits, ids, sampling, banned, bias):
    """However small the allowed ones' logits are, and if all of them are banned, too."""
    allowed = np.zeros((ROWS, VOCAB), bool)
    allowed[:, list(ids)] = True
    out_of_reach = np.where(allowed[0], bias, 0.0)
    wide = np.broadcast_to(logits.astype(np.float32), allowed.shape)
    tokens = np.asarray(run(wide, allowed, sampling, banned=banned, bias=out_of_reach).token)
    assert allowed[0, tokens].all()
    if banned and ids != {BANNED} and bias == 0:
        assert (tokens != BANNED).all()


@given(logits_of, st.sets(st.integers(0, VOCAB - 1), min_size=1), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_greedy_is_the_most_probable_allowed_token_after_bias_and_penalties(logits, ids, seed):
    rng = np.random.default_rng(seed)
    counts, bias = rng.integers(0, 3, VOCAB), rng.standard_normal(VOCAB).astype(np.float32)
    logits = (logits / np.abs(logits).max()).astype(np.float32)
    allowed = np.zeros((ROWS, VOCAB), bool)
    allowed[:, list(ids)] = True
    sampling = Sampling(temperature=0, presence_penalty=0.5, frequency_penalty=0.25)
    found = run(
        np.broadcast_to(logits, allowed.shape),
        allowed,
        sampling,
        seen=counts | IN_PROMPT,
        bias=bias,
    )
    wanted = logits + bias - 0.25 * counts.astype(np.float32) - 0.5 * (counts > 0)
    assert found.token[0] == np.argmax(np.where(allowed[0], wanted, -np.inf))


def test_only_allowed_tokens_count_in_top_k_top_p_and_min_p():
    logits = np.linspace(4, -4, VOCAB)
    allowed = np.arange(VOCAB) % 7 == 3
    sampling = Sampling(temperature=2.0, top_k=6, top_p=0.9, min_p=0.1)
    wide = np.broadcast_to(logits.astype(np.float32), (DRAWS, VOCAB))
    tokens = run(wide, np.broadcast_to(allowed, wide.shape), sampling).token
    assert_distributed(tokens, exact(np.where(allowed, logits, -np.inf), sampling))


def test_logprobs_are_those_of_the_models_own_distribution():
    logits = np.random.default_rng(0).standard_normal((ROWS, VOCAB)).astype(np.float32)
    every_fifth = np.broadcast_to(np.arange(VOCAB) % 5 == 0, logits.shape)
    found = run(logits, every_fifth, Sampling())
    logprobs = jax.nn.log_softmax(logits)
    np.testing.assert_allclose(found.logprob, logprobs[np.arange(ROWS), found.token], rtol=1e-5)
    np.testing.assert_allclose(found.top_logprobs, -np.sort(-logprobs)[:, :3], rtol=1e-5)


@pytest.mark.parametrize("vocab", [512, 1000])
def test_the_most_probable_allowed_token_is_found_beside_numbers_that_are_not_finite(vocab):
    rng = np.random.default_rng(vocab)
    logits = rng.integers(-9, 9, (ROWS, vocab)).astype(np.float32)
    allowed = rng.random((ROWS, vocab)) < 0.02
    allowed[0] = True
    logits[1] = -np.inf
    logits[2, ~allowed[2]] = np.nan
    logits[3, ~allowed[3]] = np.inf
    logits[4, np.flatnonzero(allowed[4])[-1]] = np.nan
    logits[5, np.flatnonzero(allowed[5])[0]] = np.inf
    wanted = np.where(allowed, np.maximum(logits, np.finfo(np.float32).min / 2), -np.inf)
    expected = wanted.argmax(-1)
    expected[4:6] = -1
    np.testing.assert_array_equal(
        jax.jit(allowed_argmax)(jnp.asarray(logits), packed(allowed)), expected
    )


def test_a_part_of_the_vocabulary_has_its_own_part_of_the_masks():
    allowed = np.random.default_rng(0).random((3, VOCAB)) < 0.5
    for first, tokens in ((0, 35), (35, 35), (14, 14), (60, 10), (64, 6)):
        found = masks_of_part(jnp.asarray(packed(allowed)), jnp.int32(first), tokens)
        bits = np.unpackbits(np.asarray(found), axis=1, bitorder="little")
        np.testing.assert_array_equal(bits[:, :tokens], allowed[:, first : first + tokens])


RULES = (None, Rule(3, 7), Rule(5, 30), Rule(2, 12, may_end=4))


def request(row: Row, key: int, snapshot=None) -> Request:
    made = row.request(key, snapshot)
    sampling = WithGrammar(max_tokens=row.new, logprobs=1, structured_outputs=RULES[row.seed])
    return Request(key, made.tokens, sampling, made.draw, snapshot)


def loop_of(held: str, tuner: StepTuner) -> Loop:
    made = engine(held)
    return Loop(made, tuner=tuner, grammars=FakeGrammars(made.vocab_size, made.eos_ids))


@cache
def alone(row: Row, held: str) -> Answer:
    """Without a grammar this is by blocks of steps."""
    loop, answer = loop_of(held, StepTuner(3)), Answer()
    loop.submit([request(row, 0)])
    while not loop.idle:
        for emission in loop.step():
            answer = answer.and_then(emission)
    return answer


rows_of = st.lists(
    st.builds(
        Row,
        head=st.sampled_from([0, 31]),
        tail=st.integers(0, 9),
        seed=st.integers(0, len(RULES) - 1),
        sampling=st.just(1),
        new=st.integers(1, 16),
    ),
    min_size=2,
    max_size=7,
)


@pytest.mark.parametrize("held", ["float32", "bfloat16"])
@given(rows=rows_of, random=CHANCE, every=st.integers(2, 9))
@settings(max_examples=4)
def test_every_row_is_as_it_is_alone_beside_any_others_and_interrupted_at_any_step(
    held, rows, random, every
):
    answers, snapshots = [Answer() for _ in rows], [None for _ in rows]
    while unfinished := [key for key, answer in enumerate(answers) if answer.finish is None]:
        loop = loop_of(held, AnySteps(random))
        loop.submit(request(rows[key], key, snapshots[key]) for key in unfinished)
        for emission in [e for _ in range(every) for e in loop.step()] + loop.drain():
            answers[emission.key] = answers[emission.key].and_then(emission)
            snapshots[emission.key] = emission.snapshot
        every += 1
    assert answers == [alone(row, held) for row in rows]
