"""A whole engine with the TPU's kernels, interpreted: prefill, decode and rings that come round."""

import jax.numpy as jnp
import numpy as np
import pytest

from rgpipeline.engine.griffin_engine import GriffinEngine
from rgpipeline.engine.loop import Loop
from rgpipeline.model.config import GRIFFIN_CYCLE, GriffinConfig, cycle
from rgpipeline.records import EngineSettings, Request, draw_words
from rgpipeline.spec import Sampling
from tests.model.official import Official, ours_from_official, random_official_params
from tests.model.running import padded

CONFIG = GriffinConfig(600, 256, 256, 1, 256, cycle(GRIFFIN_CYCLE, 3), window=512)
SETTINGS = EngineSettings("bfloat16", slots=16, prefill_chunk=128, steps_per_dispatch=8)
GREEDY = Sampling(temperature=0, max_tokens=24, ignore_eos=True)
# Less than the window, more, and just short of it. All chunks are of one size: the compiler's time.
LENGTHS = (100, 250, 500, 505, 510, 610, 1120)
NEAR = 0.5  # logits run to 30: what bfloat16's rounding may change about which is the largest


@pytest.fixture(scope="module")
def weights():
    return random_official_params(CONFIG, 0)


@pytest.fixture(scope="module")
def texts(weights) -> list[np.ndarray]:
    """Each prompt, and what the engine with kernels makes of it."""
    params = ours_from_official(CONFIG, weights, jnp.bfloat16)
    engine = GriffinEngine(CONFIG, params, SETTINGS, pack_tokens=512, kernels="interpret")
    rng = np.random.default_rng(0)
    prompts = [rng.integers(3, CONFIG.vocab_size, length, np.int32) for length in LENGTHS]
    loop = Loop(engine)
    loop.submit(
        [Request(key, one, GREEDY, draw_words(0, str(key), 0)) for key, one in enumerate(prompts)]
    )
    texts = list(prompts)
    while not loop.idle:
        for emission in loop.step():
            assert emission.error is None
            texts[emission.key] = np.append(texts[emission.key], emission.token_ids)
    return texts


def test_every_token_is_the_official_librarys_choice_up_to_rounding(weights, texts) -> None:
    tokens, lengths = padded(texts)
    logits = Official(CONFIG, weights).forward(tokens)
    behind = [
        logits[row, end - 25 : end - 1].max(-1)
        - np.take_along_axis(logits[row, end - 25 : end - 1], texts[row][-24:, None], -1)[:, 0]
        for row, end in enumerate(lengths)
    ]
    assert np.max(behind) < NEAR
    assert np.mean(np.equal(behind, 0)) > 0.9
