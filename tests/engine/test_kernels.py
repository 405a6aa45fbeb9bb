"""A whole engine with the TPU's kernels, interpreted: prefill, decode and rings that come round."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from rgpipeline.engine.griffin_engine import GriffinEngine
from rgpipeline.engine.loop import Loop
from rgpipeline.model.config import ATTENTION, RECURRENT, GriffinConfig
from rgpipeline.records import Request, ResolvedSettings, draw_words
from rgpipeline.spec import Sampling
from tests.model.official import Official, in_int8, ours_from_official, random_official_params
from tests.model.running import padded

CONFIG = GriffinConfig(600, 256, 256, 1, 256, (RECURRENT, ATTENTION), window=512)
SETTINGS = ResolvedSettings("bfloat16", slots=16, prefill_chunk=128, steps_per_dispatch=8)
# Quantized, chunks have two lengths where they have four else: most of the time is the compiler's.
CHUNKS = {"none": 128, "int8": 32}
GREEDY = Sampling(temperature=0, max_tokens=24, ignore_eos=True)
# Less than the window, more, and just short of it.
LENGTHS = (100, 250, 500, 505, 510, 610, 1120)
# What rounding may change about which logit is the largest, of those that run to 30; and how many
# tokens are the very same.
NEAR = {"none": (0.5, 0.9), "int8": (2.5, 0.6)}


@pytest.fixture(scope="module")
def weights():
    return random_official_params(CONFIG, 0)


@pytest.fixture(scope="module", params=NEAR)
def settings(request) -> ResolvedSettings:
    return replace(SETTINGS, quantize=request.param, prefill_chunk=CHUNKS[request.param])


@pytest.fixture(scope="module")
def texts(weights, settings) -> list[np.ndarray]:
    """Each prompt, and what the engine with kernels makes of it."""
    params = ours_from_official(CONFIG, weights, jnp.bfloat16)
    if settings.quantize == "int8":
        params = in_int8(params)
    engine = GriffinEngine(CONFIG, params, settings, pack_tokens=512, kernels="interpret")
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


def test_every_token_is_the_official_librarys_choice_up_to_rounding(
    weights, settings, texts
) -> None:
    tokens, lengths = padded(texts)
    logits = Official(CONFIG, weights).forward(tokens)
    behind = [
        logits[row, end - 25 : end - 1].max(-1)
        - np.take_along_axis(logits[row, end - 25 : end - 1], texts[row][-24:, None], -1)[:, 0]
        for row, end in enumerate(lengths)
    ]
    near, same = NEAR[settings.quantize]
    assert np.max(behind) < near
    assert np.mean(np.equal(behind, 0)) > same
