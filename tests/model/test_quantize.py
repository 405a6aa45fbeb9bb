"""int8: what rows become, what products of them are, and how far off a model then is."""

import tracemalloc

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from rgpipeline.model.ops import primitives
from rgpipeline.model.param_tree import flatten
from rgpipeline.model.params import param_shapes
from rgpipeline.model.quantize import is_quantized, quantized_rows, quantized_weights, scale_path
from rgpipeline.model.weights.loading import load
from tests.model.golden import Golden
from tests.model.held_out import DEMO, Logprobs, held_out, logprobs
from tests.model.running import Runner
from tests.sources import source

rng = np.random.default_rng(0)
MATRIX = rng.normal(size=(40, 2600)).astype(np.float32) * np.logspace(-3, 3, 40)[:, None]


def test_a_weight_is_off_by_half_a_step_of_its_row_at_most() -> None:
    numbers, scales = quantized_weights(MATRIX)
    steps = np.abs(MATRIX).max(axis=1) / 127
    off = np.abs(numbers * np.float64(scales)[:, None] - MATRIX).max(axis=1)
    assert (off <= 0.5001 * steps).all()
    assert (np.abs(numbers).max(axis=1) == 127).all()


def test_rows_on_the_device_are_quantized_as_weights_are_on_the_host() -> None:
    for found, expected in zip(
        quantized_rows(jnp.asarray(MATRIX)), quantized_weights(MATRIX), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_row_of_zeros_stays_one() -> None:
    numbers, scales = quantized_weights(np.zeros((1, 8), np.float32))
    assert not numbers.any()
    assert np.isfinite(scales).all()


def test_weights_are_quantized_in_little_more_memory_than_they_then_have() -> None:
    value = np.zeros((4096, 4096), ml_dtypes.bfloat16)
    tracemalloc.start()
    quantized_weights(value)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.75 * value.size


def test_a_product_sums_exactly_however_wide_it_is() -> None:
    """All numbers the largest there are: float32 would lose the last digits of the sum."""
    width = 7680
    x = np.where(np.arange(width) == 0, 1.0, 127.0).astype(np.float32)[None]
    kernel = np.full((3, width), 127, np.int8)
    found = primitives.linear(jnp.asarray(x), jnp.asarray(kernel), None, jnp.ones(3))
    assert np.asarray(found).tolist() == [[float(np.float32(127 * 127 * (width - 1) + 127))] * 3]


def test_a_linear_layer_is_near_the_float_one() -> None:
    x = rng.normal(size=(5, 2600)).astype(np.float32)
    numbers, scales = quantized_weights(MATRIX)
    found = primitives.linear(jnp.asarray(x), jnp.asarray(numbers), None, jnp.asarray(scales))
    exact = x @ MATRIX.T
    assert np.abs((found - exact) / np.abs(MATRIX).max(axis=1)).max() < 0.01 * 2600**0.5


def test_a_rows_product_does_not_depend_on_its_neighbours() -> None:
    x = rng.normal(size=(8, 2600)).astype(np.float32)
    kernel, scale = (jnp.asarray(part) for part in quantized_weights(MATRIX))
    other = x.copy()
    other[1:] *= 1e6
    first, second = (primitives.linear(jnp.asarray(one), kernel, None, scale) for one in (x, other))
    assert np.asarray(first)[0].tobytes() == np.asarray(second)[0].tobytes()


def test_a_checkpoint_is_held_as_its_shapes_say() -> None:
    config, params, dtype = load(source(DEMO, "bfloat16", quantize="int8"))
    found = {path: (leaf.shape, leaf.dtype) for path, leaf in flatten(params).items()}
    wanted = flatten(param_shapes(config, dtype, quantized=True))
    assert found == {path: (leaf.shape, leaf.dtype) for path, leaf in wanted.items()}


def test_a_checkpoints_matrices_are_the_stored_ones_but_for_rounding() -> None:
    _, floats, _ = load(source(DEMO, "float32"))
    _, held, _ = load(source(DEMO, "float32", quantize="int8"))
    held = flatten(held)
    for path, value in flatten(floats).items():
        if is_quantized(path):
            numbers, scales = np.asarray(held[path]), np.asarray(held[scale_path(path)])
            off = np.abs(numbers * scales[..., None] - np.asarray(value))
            assert (off <= 0.5001 * scales[..., None]).all(), path
        else:
            np.testing.assert_array_equal(held[path], value)


def told(dtype: str, way: str = "prefill", quantized: bool = False) -> Logprobs:
    """What the demo model says of unseen text."""
    texts = held_out()
    config, params, settled = load(source(DEMO, dtype, quantize="int8" if quantized else "none"))
    runner = Runner(config, params, settled, quantized, optimized=True)
    if way == "decode":
        return logprobs(texts, np.stack(runner.token_by_token(list(texts))))
    return logprobs(texts, np.stack(runner.in_chunks(list(texts), 64)[0]))


@pytest.fixture(scope="module", params=["prefill", "decode"])
def in_int8(request: pytest.FixtureRequest) -> Logprobs:
    return told("bfloat16", request.param, quantized=True)


@pytest.fixture(scope="module")
def in_float32() -> Logprobs:
    return told("float32")


@pytest.fixture(scope="module")
def in_bfloat16() -> Logprobs:
    return told("bfloat16")


def test_perplexity_on_unseen_text_is_within_a_200th_of_bfloat16s(
    in_int8: Logprobs, in_bfloat16: Logprobs
) -> None:
    assert abs(in_int8.perplexity() / in_bfloat16.perplexity() - 1) < 0.005


def test_the_distribution_on_unseen_text_is_off_by_less_than_a_thousandth_of_a_nat(
    in_int8: Logprobs, in_float32: Logprobs
) -> None:
    assert in_int8.divergence_from(in_float32) < 1e-3


@pytest.fixture(scope="module")
def quantized(golden: Golden) -> Runner:
    config, params, _ = load(source(golden.folder / "hf", "float32", quantize="int8"))
    return Runner(config, params, quantized=True, optimized=True)


@pytest.mark.parametrize("way", ["in chunks", "token by token"])
def test_a_random_models_logits_are_near_the_official_ones(
    golden: Golden, quantized: Runner, way: str
) -> None:
    if way == "in chunks":
        found, _ = quantized.in_chunks(golden.prompts, 5)
    else:
        found = quantized.token_by_token(golden.prompts)
    off = np.concatenate(found) - np.concatenate(golden.logits)
    assert np.sqrt(np.square(off).mean()) < 0.1 * np.concatenate(golden.logits).std()
