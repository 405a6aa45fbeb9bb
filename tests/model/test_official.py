"""Random models over odd configurations, against the official library's whole-sequence pass."""

import numpy as np
import pytest

from rgpipeline.model.config import ATTENTION, GRIFFIN_CYCLE, RECURRENT, GriffinConfig, cycle
from tests.model.official import Pair, pair
from tests.model.running import cut, padded, worst

TOLERANCE = 2e-4

ODD = {
    "griffin of the paper": GriffinConfig(
        vocab_size=131,
        width=36,
        mlp_width=50,
        heads=3,
        lru_width=30,
        block_types=cycle(GRIFFIN_CYCLE, 5),
        window=7,
        logits_soft_cap=0.0,
        scale_embeddings=False,
    ),
    "attention first, one head": GriffinConfig(
        vocab_size=97,
        width=20,
        mlp_width=33,
        heads=1,
        lru_width=26,
        block_types=cycle((ATTENTION, RECURRENT), 4),
        window=5,
    ),
    "hawk whose heads do not divide its width": GriffinConfig(
        vocab_size=41,
        width=22,
        mlp_width=30,
        heads=4,
        lru_width=36,
        block_types=(RECURRENT,) * 2,
        logits_soft_cap=0.0,
        scale_embeddings=False,
        window=6,
    ),
    "recurrentgemma, many heads, cut-off cycle": GriffinConfig(
        vocab_size=257,
        width=88,
        mlp_width=70,
        heads=11,
        lru_width=88,
        block_types=cycle(GRIFFIN_CYCLE, 4),
        window=8,
    ),
    "attention only, window of one": GriffinConfig(
        vocab_size=53,
        width=32,
        mlp_width=16,
        heads=4,
        lru_width=8,
        block_types=(ATTENTION,) * 2,
        window=1,
        logits_soft_cap=5.0,
    ),
}


@pytest.fixture(scope="module", params=ODD)
def models(request: pytest.FixtureRequest) -> Pair:
    return pair(ODD[request.param], seed=len(request.param))


@pytest.fixture(scope="module")
def prompts(models: Pair) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    config = models.ours.config
    lengths = (1, config.window, config.window + 1, 4 * config.window + 3)
    return [rng.integers(0, config.vocab_size, n).astype(np.int32) for n in lengths]


@pytest.fixture(scope="module")
def expected(models: Pair, prompts: list[np.ndarray]) -> list[np.ndarray]:
    tokens, lengths = padded(prompts)
    return cut(models.theirs.forward(tokens), lengths)


def test_forward_agrees(
    models: Pair, prompts: list[np.ndarray], expected: list[np.ndarray]
) -> None:
    tokens, lengths = padded(prompts)
    assert worst(cut(np.asarray(models.ours.forward(tokens)), lengths), expected) < TOLERANCE


@pytest.mark.parametrize(
    "chunk", ["1", "window - 1 or 2", "window", "2 * window + 1", "3 * window"]
)
def test_ragged_chunks_agree(
    models: Pair, prompts: list[np.ndarray], expected: list[np.ndarray], chunk: str
) -> None:
    length = eval(chunk, {"window": models.ours.config.window})
    assert worst(models.ours.in_chunks(prompts, length)[0], expected) < TOLERANCE


def test_decoding_over_several_laps_of_the_ring_agrees(
    models: Pair, prompts: list[np.ndarray], expected: list[np.ndarray]
) -> None:
    assert worst(models.ours.token_by_token(prompts), expected) < TOLERANCE


def test_a_sequence_goes_on_from_its_state(
    models: Pair, prompts: list[np.ndarray], expected: list[np.ndarray]
) -> None:
    head = [prompt[: len(prompt) // 2] for prompt in prompts]
    tail = [prompt[len(prompt) // 2 :] for prompt in prompts]
    _, state = models.ours.in_chunks(head, 4)
    found, _ = models.ours.in_chunks(tail, 4, state)
    assert worst(found, [e[len(h) :] for e, h in zip(expected, head, strict=True)]) < TOLERANCE
