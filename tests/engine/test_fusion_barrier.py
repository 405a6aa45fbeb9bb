"""What a decode program can do besides changes nothing of what it says of a plain row.

At a size where XLA fuses the head with what uses its logits, as it does in real models.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from rgpipeline.engine.griffin_engine import GriffinEngine
from rgpipeline.engine.loop import Loop
from rgpipeline.engine.slot_fields import SamplingFeatures
from rgpipeline.model.config import GriffinConfig
from rgpipeline.model.params import random_params
from rgpipeline.records import Request, ResolvedSettings, draw_words
from rgpipeline.spec import Sampling

CONFIG = GriffinConfig(32_000, 64, 128, 2, 64, ("recurrent", "attention"), window=32)
ROWS, TOKENS = 40, 100  # enough for a difference in one rounding of many to show
PLAIN = SamplingFeatures(draws=True, logprobs=1)


@pytest.fixture(scope="module")
def engine() -> GriffinEngine:
    params = random_params(CONFIG, 3, jnp.float32)
    return GriffinEngine(CONFIG, params, ResolvedSettings("float32", 16, 16, 4), pack_tokens=64)


@pytest.fixture(scope="module")
def plain(engine: GriffinEngine) -> "Said":
    return said(engine, PLAIN)


Said = list[tuple[bytes, bytes]]


def said(engine: GriffinEngine, features: SamplingFeatures) -> Said:
    """Tokens and log-probabilities of plain rows, beside one that asks for `features`."""
    greedy = Sampling(temperature=0, max_tokens=TOKENS, logprobs=1, ignore_eos=True)
    demanding = Sampling(
        max_tokens=TOKENS,
        ignore_eos=True,
        top_p=0.9 if features.truncates else 1.0,
        repetition_penalty=1.2 if features.penalties else 1.0,
        logit_bias={5: 1.0} if features.bias else {},
        min_tokens=3 if features.bans else 0,
        logprobs=features.logprobs,
    )
    loop, answers = Loop(engine), [(b"", b"")] * ROWS
    samplings = [greedy.model_copy(update={"temperature": key / 20}) for key in range(ROWS)]
    for key, sampling in enumerate([*samplings, demanding]):
        loop.submit(
            [Request(key, np.asarray([2, key], np.int32), sampling, draw_words(0, "", key))]
        )
    while not loop.idle:
        for emission in loop.step():
            if emission.key < ROWS:
                tokens, logprobs = answers[emission.key]
                logprobs += emission.logprobs.sampled.tobytes()
                answers[emission.key] = (tokens + emission.token_ids.tobytes(), logprobs)
    return answers


@pytest.mark.parametrize(
    "more",
    [{"truncates": True}, {"penalties": True}, {"bias": True}, {"bans": True}, {"logprobs": 4}],
    ids=str,
)
def test_a_neighbours_wishes_change_no_bit_of_a_row(engine, plain, more) -> None:
    assert said(engine, dataclasses.replace(PLAIN, **more)) == plain
