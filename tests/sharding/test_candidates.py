"""A vocabulary in parts: the best of the parts' candidates is the token of the whole vocabulary."""

import jax.numpy as jnp
import numpy as np
import pytest

from rgpipeline.engine.programs.score_head import reduce_softmax, softmax_share
from rgpipeline.engine.sampling.draw import (
    local_candidate,
    noise,
    rate_of,
    reduce_candidates,
    token_of,
)
from rgpipeline.model.griffin_state import Position
from rgpipeline.model.kernels.head import BLOCK, choose

ROWS, WIDTH, CAP, PARTS = 32, 128, 30.0, 4
BLOCKS = 2  # of a part
rng = np.random.default_rng(0)
TABLE = jnp.asarray(rng.normal(size=(PARTS * BLOCKS * BLOCK, WIDTH)), jnp.bfloat16)
HIDDEN = jnp.asarray(rng.normal(size=(ROWS, WIDTH)) * 0.3, jnp.bfloat16)


@pytest.mark.parametrize("temperature", [0.0, 4.0])
def test_the_best_candidate_is_what_one_head_over_all_chooses(temperature: float) -> None:
    words = jnp.stack([jnp.arange(ROWS, dtype=jnp.uint32)] * 2, axis=1)
    position = Position(*(jnp.full(ROWS, value, jnp.int32) for value in (0, 5, 0, 0)))
    gumbel, uniform = noise(words, position, PARTS * BLOCKS)
    rate = rate_of(jnp.full(ROWS, temperature, jnp.float32))
    whole = token_of(
        choose(HIDDEN, TABLE, None, rate, gumbel, soft_cap=CAP, interpret=True), rate, uniform
    )

    candidates, size = [], BLOCKS * BLOCK
    for part in range(PARTS):
        table = TABLE[part * size : (part + 1) * size]
        mine = gumbel[:, part * BLOCKS : (part + 1) * BLOCKS]
        choice = choose(HIDDEN, table, None, rate, mine, soft_cap=CAP, interpret=True)
        candidates.append(
            local_candidate(choice, rate, mine, token_of(choice, rate, uniform) + part * size)
        )

    np.testing.assert_array_equal(reduce_candidates(jnp.stack(candidates), rate), whole)
    assert len(set((np.asarray(whole) // size).tolist())) == PARTS


@pytest.mark.parametrize("size", [31, 32, 768])
def test_shares_of_a_softmax_make_the_whole(size: int) -> None:
    logits = rng.normal(size=(PARTS, ROWS, size)).astype(np.float32) * 5
    targets = rng.integers(0, PARTS * size, ROWS)
    shares = [softmax_share(part, targets - size * i) for i, part in enumerate(logits)]

    told, greedy = reduce_softmax(jnp.stack(shares))

    whole = np.concatenate(logits.astype(np.float64), axis=1)
    expected = whole[np.arange(ROWS), targets] - np.log(np.exp(whole).sum(axis=1))
    np.testing.assert_allclose(told, expected, atol=1e-5)
    np.testing.assert_array_equal(greedy, targets == whole.argmax(axis=1))


def test_the_most_probable_token_is_told_and_of_equal_ones_the_first() -> None:
    size = 512
    logits = rng.integers(0, 4, (PARTS, ROWS, size)).astype(np.float32)  # many are equal
    best = np.argmax(np.concatenate(logits, axis=1), axis=1)
    for targets in (best, best + 1, rng.integers(0, PARTS * size, ROWS)):
        shares = [softmax_share(part, targets - size * i) for i, part in enumerate(logits)]
        _, greedy = reduce_softmax(jnp.stack(shares))
        np.testing.assert_array_equal(greedy, targets == best)
