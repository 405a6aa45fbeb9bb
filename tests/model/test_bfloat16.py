"""bfloat16 on text that the demo model never saw: nearer to float32 than the official library's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bench.peers.official_params import official_params
from rgpipeline.model.ops import cpu_primitives
from rgpipeline.model.weights.loading import load
from tests.model.held_out import DEMO, Logprobs, held_out, logprobs
from tests.model.official import Official
from tests.model.running import Runner
from tests.sources import source


@pytest.fixture(scope="module")
def tokens() -> np.ndarray:
    return held_out()


@pytest.fixture(scope="module")
def exact(tokens: np.ndarray) -> Logprobs:
    return logprobs(tokens, official(jnp.float32).forward(tokens))


@pytest.fixture(scope="module")
def theirs(tokens: np.ndarray) -> Logprobs:
    return logprobs(tokens, official(jnp.bfloat16).forward(tokens))


def official(dtype: object) -> Official:
    config, _, _ = load(source(DEMO, "float32"))
    return Official(config, official_params(DEMO, dtype), dtype, optimized=True)


@pytest.fixture(scope="module", params=["prefill", "decode", "on a CPU that multiplies less"])
def ours(request: pytest.FixtureRequest, tokens: np.ndarray) -> Logprobs:
    config, params, _ = load(source(DEMO, "bfloat16"))
    runner = Runner(config, params, jnp.bfloat16, optimized=True)
    texts = list(tokens)
    with pytest.MonkeyPatch.context() as patch:
        if "less" in request.param:
            patch.setattr(cpu_primitives, "runs_in_bfloat16", lambda *_: False)
        if request.param == "decode":
            return logprobs(tokens, np.stack(runner.token_by_token(texts)))
        return logprobs(tokens, np.stack(runner.in_chunks(texts, 64)[0]))


def test_the_distribution_is_no_further_off_than_the_official_ones(
    ours: Logprobs, theirs: Logprobs, exact: Logprobs
) -> None:
    assert ours.divergence_from(exact) <= theirs.divergence_from(exact)


def test_the_perplexity_is_within_a_thousandth(ours: Logprobs, exact: Logprobs) -> None:
    assert abs(ours.perplexity() / exact.perplexity() - 1) < 1e-3


def test_a_product_that_the_cpu_cannot_run_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise jax.errors.JaxRuntimeError("UNIMPLEMENTED: DotThunk")

    monkeypatch.setattr(cpu_primitives.jnp, "einsum", refuse)
    assert not cpu_primitives.runs_in_bfloat16.__wrapped__(
        "btnh,bsh->btns", (1, 1, 1, 3), (1, 2, 3)
    )
