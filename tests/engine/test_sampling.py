"""The sampler's distributions, against probabilities computed apart from it in float64."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rgpipeline.engine.sampling.sampler import Sampled, count_token, sample
from rgpipeline.engine.slot_fields import (
    ENTRIES,
    IN_PROMPT,
    SamplingFeatures,
    SlotFields,
    SlotParams,
)
from rgpipeline.model.griffin_state import Position
from rgpipeline.spec import Sampling

ALL = SamplingFeatures(True, True, True, True, True, 3)
DRAWS = 20_000
_jitted = jax.jit(sample, static_argnames="features")


def run(
    logits: jax.Array, slots: SlotFields, position: Position, banned: jax.Array | None = None
) -> Sampled:
    """One draw of every row, by a sampler that can do everything."""
    if banned is None:
        banned = jnp.full((len(logits), 1), -1, jnp.int32)
    return _jitted(logits, slots, position, banned, features=ALL)


def state(rows: int, vocab: int, sampling: Sampling, seen=None, bias=None) -> SlotFields:
    params = SlotParams(np.zeros(1, np.int32), sampling, (0, 0), remaining=1)
    fields = {}
    for name, entry in ENTRIES.items():
        shape = entry.row_shape(vocab, ALL)
        fields[name] = jnp.broadcast_to(entry.row(name, params, shape), (rows, *shape))
    words = jnp.stack([jnp.arange(rows), jnp.full((rows,), 7)], axis=1)
    given = {"seen": seen, "logit_bias": bias, "draw": words}
    for name, array in given.items():
        array = np.zeros(vocab) if array is None else array
        array = jnp.asarray(array).astype(ENTRIES[name].dtype)
        fields[name] = jnp.broadcast_to(array, fields[name].shape)
    return SlotFields(**fields)


def draw(logits: np.ndarray, sampling: Sampling, at: int = 5, **more) -> Sampled:
    rows = DRAWS
    position = Position(*(jnp.full((rows,), p, jnp.int32) for p in (0, at, 0, 0)))
    wide = jnp.broadcast_to(jnp.asarray(logits, jnp.float32), (rows, len(logits)))
    return run(wide, state(rows, len(logits), sampling, **more), position)


def exact(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    """Probabilities by sorting, in float64."""
    scaled = logits.astype(np.float64) / sampling.temperature
    p = np.exp(scaled - scaled.max())
    p /= p.sum()
    order = np.argsort(-p, kind="stable")
    keep = np.ones(len(p), bool)
    if sampling.top_k:
        keep[order[sampling.top_k :]] = False
    kept = np.where(keep, p, 0)
    before = np.cumsum(kept[order]) - kept[order]
    keep[order[before >= sampling.top_p * kept.sum()]] = False
    keep &= p >= sampling.min_p * p.max()
    return np.where(keep, p, 0) / p[keep].sum()


def assert_distributed(tokens: jax.Array, probability: np.ndarray) -> None:
    counts = np.bincount(np.asarray(tokens), minlength=len(probability))
    assert counts[probability == 0].sum() == 0
    likely = probability * DRAWS >= 5
    expected = np.append(probability[likely], probability[~likely].sum()) * DRAWS
    observed = np.append(counts[likely], counts[~likely].sum())
    nonzero = expected > 0
    if nonzero.sum() == 1:  # one token has all the probability, and no other was drawn
        return
    assert stats.chisquare(observed[nonzero], expected[nonzero]).pvalue > 1e-4


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 2.5},
        {"top_k": 1},
        {"top_k": 7},
        {"top_k": 200},
        {"top_p": 0.3},
        {"top_p": 0.9},
        {"top_p": 0.999},
        {"min_p": 0.2},
        {"temperature": 1.7, "top_k": 90, "top_p": 0.8, "min_p": 0.01},
        {"temperature": 30.0, "top_p": 0.95},
    ],
    ids=str,
)
@pytest.mark.parametrize("vocab", [10, 600])
def test_tokens_follow_the_exact_distribution(options: dict[str, float], vocab: int) -> None:
    logits = np.random.default_rng(vocab).normal(size=vocab).astype(np.float32) * 2
    sampling = Sampling(**options)
    assert_distributed(draw(logits, sampling).token, exact(logits, sampling))


def test_temperature_zero_takes_the_first_of_the_most_probable() -> None:
    tokens = draw(np.float32([0, 3, 1, 3]), Sampling(temperature=0)).token
    assert set(np.asarray(tokens).tolist()) == {1}


def test_draws_at_different_positions_are_independent() -> None:
    logits = np.zeros(16, np.float32)
    first, second = (np.asarray(draw(logits, Sampling(), at=at).token) for at in (5, 6))
    table = np.histogram2d(first, second, bins=16)[0]
    assert stats.chi2_contingency(table).pvalue > 1e-4


def test_a_rows_token_does_not_depend_on_what_its_neighbours_ask_for() -> None:
    rng = np.random.default_rng(0)
    rows, vocab = 64, 500
    logits = jnp.asarray(rng.normal(size=(rows, vocab)), jnp.float32)
    position = Position(*(jnp.zeros((rows,), jnp.int32),) * 4)
    plain = state(rows, vocab, Sampling(top_p=0.9))
    flat = replace(plain, temperature=plain.temperature.at[1:].set(50.0))  # bisection needed
    one = run(logits, plain, position).token[0]
    other = run(logits, flat, position).token[0]
    assert one == other


def test_penalties_and_bias_shape_the_logits_as_documented() -> None:
    logits = np.float32([2.0, -2.0, 1.0, 0.5, 0.0])
    seen = np.array([IN_PROMPT, 2, IN_PROMPT + 3, 0, 0])
    sampling = Sampling(repetition_penalty=2.0, presence_penalty=0.25, frequency_penalty=0.5)
    wanted = np.array([1.0, -4.0 - 1.0 - 0.25, 0.5 - 1.5 - 0.25, 1.5, 0.0])
    drawn = draw(logits, sampling, seen=seen, bias=np.array([0, 0, 0, 1.0, 0]))
    assert_distributed(drawn.token, exact(wanted, Sampling()))


def test_generated_tokens_are_counted_for_active_slots_only() -> None:
    counted = count_token(state(2, 4, Sampling()), jnp.array([3, 3]), jnp.array([True, False]), ALL)
    assert counted.seen.tolist() == [[0, 0, 0, 1], [0, 0, 0, 0]]


def test_banned_ids_are_never_drawn() -> None:
    rows = 1000
    position = Position(*(jnp.zeros((rows,), jnp.int32),) * 4)
    banned = jnp.tile(jnp.array([[0, -1]]), (rows, 1))
    logits = jnp.tile(jnp.array([[9.0, 0.0, 0.0]]), (rows, 1))
    tokens = run(logits, state(rows, 3, Sampling()), position, banned).token
    assert set(tokens.tolist()) == {1, 2}


def test_logprobs_are_those_of_the_model_before_any_shaping() -> None:
    logits = np.float32([1.0, 3.0, 2.0, 0.0])
    drawn = draw(logits, Sampling(temperature=0, top_k=1), bias=np.array([0, 0, 5.0, 0]))
    wanted = logits - np.log(np.exp(logits).sum())
    assert drawn.token[0] == 2
    np.testing.assert_allclose(drawn.logprob[0], wanted[2], atol=1e-6)
    assert drawn.top_ids[0].tolist() == [1, 2, 0]
    np.testing.assert_allclose(drawn.top_logprobs[0], np.sort(wanted)[:0:-1], atol=1e-6)
