"""The official library's numbers, however the model is run."""

import jax
import numpy as np
import pytest

from rgpipeline.model.weights.loading import load
from tests.model.golden import Golden
from tests.model.running import cut, padded, worst
from tests.sources import source

TOLERANCE = 2e-4


def test_forward_gives_the_official_logits(golden: Golden) -> None:
    tokens, lengths = padded(golden.prompts)
    found = cut(np.asarray(golden.runner.forward(tokens)), lengths)
    assert worst(found, golden.logits) < TOLERANCE


@pytest.mark.parametrize("chunk", ["1", "5", "window", "2 * window + 3"])
def test_ragged_batches_in_chunks_give_the_official_logits(golden: Golden, chunk: str) -> None:
    length = eval(chunk, {"window": golden.runner.config.window})
    found, _ = golden.runner.in_chunks(golden.prompts, length)
    assert worst(found, golden.logits) < TOLERANCE


def test_decoding_token_by_token_gives_the_official_logits(golden: Golden) -> None:
    assert worst(golden.runner.token_by_token(golden.prompts), golden.logits) < TOLERANCE


def test_greedy_continuations_are_the_official_ones(golden: Golden) -> None:
    logits, state = golden.runner.in_chunks(golden.prompts, 5)
    last = np.stack([one[-1] for one in logits])
    found = golden.runner.greedy(last, state, golden.steps)
    np.testing.assert_array_equal(found, golden.greedy)


def test_the_official_checkpoint_is_the_same_model(golden: Golden) -> None:
    config, params, _ = load(source(golden.folder / "official", "float32"))
    assert config == golden.runner.config
    jax.tree.map(np.testing.assert_array_equal, params, golden.runner.params)
