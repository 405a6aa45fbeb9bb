"""Logits that are NaN or infinite: the row's error; the weights' where every row has them."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rgpipeline.engine.checks import NO_NUMBERS, NumberCheck
from rgpipeline.engine.factory import number_check
from rgpipeline.engine.griffin_engine import GriffinEngine
from rgpipeline.engine.loop import Loop
from rgpipeline.engine.sampling.next_token import next_tokens
from rgpipeline.engine.sampling.reductions import argmax
from rgpipeline.engine.slot_fields import SamplingFeatures
from rgpipeline.engine.slot_state import empty_slots
from rgpipeline.engine.text_requests import TextResult
from rgpipeline.errors import WeightsError
from rgpipeline.model.config import ATTENTION, RECURRENT, GriffinConfig
from rgpipeline.model.griffin_state import init_state
from rgpipeline.model.layers.griffin import Griffin
from rgpipeline.model.param_tree import flatten, nest
from rgpipeline.model.params import random_params
from rgpipeline.model.quantize import is_quantized, quantized_rows, quantized_weights, scale_path
from rgpipeline.records import Emission, Request, ResolvedSettings, draw_words
from rgpipeline.spec import Sampling
from tests.engine.reading import scores

pytestmark = pytest.mark.usefixtures("compiled_fast")

CONFIG = GriffinConfig(512, 64, 64, 2, 64, (RECURRENT, ATTENTION), window=16, tied=False)
SETTINGS = ResolvedSettings("float32", slots=2, prefill_chunk=16, steps_per_dispatch=4)
BAD = 500  # the token that is spoilt
EMBEDDING = ("embedder", "embedding")


def params_with(value: float, path: tuple[str, ...], quantized: bool = False) -> Any:
    """Random ones, with `value` in one place of the parameter: in the row of BAD, if it has one."""
    held = {
        name: np.array(leaf) for name, leaf in flatten(random_params(CONFIG, 0, "float32")).items()
    }
    array = held[path].reshape(-1, held[path].shape[-1])
    array[BAD if len(array) > BAD else 0, 3] = value
    if quantized:
        for name in [name for name in held if is_quantized(name)]:
            held[name], held[scale_path(name)] = quantized_weights(held[name])
    return nest({name: jnp.asarray(leaf) for name, leaf in held.items()})


@cache
def spoilt(path: tuple[str, ...], value: float, quantize: Any) -> tuple[GriffinEngine, Any]:
    """An engine and its parameters."""
    params = params_with(value, path, quantized=quantize == "int8")
    settings = replace(SETTINGS, quantize=quantize)
    return GriffinEngine(CONFIG, params, settings, pack_tokens=32), params


def loop_with(path: tuple[str, ...], value: float, quantize: Any = "none") -> Loop[Any, Any]:
    engine, params = spoilt(path, value, quantize)
    loop = Loop(engine)
    loop.numbers = number_check(engine, params, "the folder")
    return loop


def outcome(
    loop: Loop[Any, Any], rows: Mapping[int, tuple[list[int], dict[str, Any]]]
) -> Mapping[Any, tuple[list[int], Emission]]:
    """Of each prompt with its sampling: its tokens, and its last emission."""
    loop.submit(
        Request(
            key,
            np.asarray(prompt, np.int32),
            Sampling(max_tokens=6, ignore_eos=True, **sampling),
            draw_words(0, str(key), 0),
        )
        for key, (prompt, sampling) in rows.items()
    )
    tokens: dict[Any, list[int]] = {key: [] for key in rows}
    last = {}
    while not loop.idle:
        for emission in loop.step():
            tokens[emission.key] += emission.token_ids.tolist()
            last[emission.key] = emission
    return {key: (tokens[key], last[key]) for key in tokens}


SAMPLINGS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0},
    "drawn": {"temperature": 1},
    "shaped": {"temperature": 1, "top_k": 5, "logprobs": 2, "frequency_penalty": 0.5}
    | {"logit_bias": {7: 2.0}, "min_tokens": 3},
}
PROMPTS = [[2, 9, 11], [2, 9, BAD, 11], [2, 40], [2, 41], [2, BAD], [2, 42, 43]]


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
def test_rows_without_numbers_fail_and_leave_the_others_as_they_are_alone(
    sampling: dict[str, Any],
) -> None:
    loop = loop_with(EMBEDDING, np.nan)
    rows = {key: (prompt, sampling) for key, prompt in enumerate(PROMPTS)}
    found = outcome(loop, rows)
    good = {key: row for key, row in rows.items() if BAD not in row[0]}
    assert [key for key, (_, last) in found.items() if last.error == NO_NUMBERS] == [1, 4]
    assert [found[key][0] for key in good] == [tokens for tokens, _ in outcome(loop, good).values()]
    assert {found[key][1].finish for key in good} == {"length"}


@pytest.mark.parametrize(
    ("path", "value", "quantize"),
    [
        (("blocks_0", "mlp", "down", "kernel"), np.inf, "none"),
        (("lm_head", "kernel"), np.nan, "none"),
        (("lm_head", "kernel"), np.nan, "int8"),
    ],
    ids=str,
)
def test_weights_that_give_no_numbers_end_the_work_and_are_named(
    path: tuple[str, ...], value: float, quantize: str
) -> None:
    loop = loop_with(path, value, quantize)
    with pytest.raises(WeightsError) as caught:
        outcome(loop, {0: (PROMPTS[0], SAMPLINGS["greedy"])})
    assert "the folder: the weights give no numbers" in str(caught.value)
    assert ".".join(path) in str(caught.value)


def test_scores_without_numbers_are_one_texts_where_others_have_some() -> None:
    texts = [np.asarray(tokens, np.int32) for tokens in PROMPTS[:3]]
    found = scores(loop_with(EMBEDDING, np.nan), texts)
    assert [bool(np.isnan(score).any()) for score in found] == [False, True, False]


def test_scores_without_numbers_have_the_weights_looked_at() -> None:
    def probe() -> None:
        raise WeightsError("no numbers")

    with pytest.raises(WeightsError):
        NumberCheck(probe).of_texts([TextResult("a", 2, np.asarray([-1.0, np.nan], np.float32))])


def told(check: NumberCheck, failed: int, emitted: int = 0) -> NumberCheck:
    token = np.zeros(1, np.int32)
    for key in range(emitted):
        check.emitted(Emission(key, token))
    for key in range(failed):
        check.emitted(Emission(key, token[:0], "error", error=NO_NUMBERS))
    return check


def test_when_no_row_of_many_has_numbers_the_work_ends() -> None:
    with pytest.raises(WeightsError, match="the first 32 rows are NaN"):
        told(NumberCheck(weights="w"), failed=32)


def test_rows_may_fail_as_long_as_others_do_not() -> None:
    told(NumberCheck(), failed=100, emitted=1)


@jax.jit
def largest_of(turned: jax.Array) -> jax.Array:
    """Of values as a decode step's logits lie in memory."""
    return argmax(turned.T)


@pytest.mark.parametrize("spoil", [np.nan, -np.nan, np.inf])
@pytest.mark.parametrize(("rows", "vocab"), [(3, 512), (64, 32_000), (8, 1001)])
def test_no_token_is_the_largest_among_values_that_are_not_finite(
    rows: int, vocab: int, spoil: float
) -> None:
    values = np.random.default_rng(0).normal(size=(rows, vocab)).astype(np.float32)
    expected = values.argmax(-1)
    for row, at in ((0, 0), (1, vocab // 2), (2, vocab - 1)):
        values[row, at], expected[row] = spoil, -1
    np.testing.assert_array_equal(largest_of(values.T), expected)


@pytest.mark.parametrize("rows", [3, 16, 32, 64])
def test_a_row_of_nan_has_no_scale(rows: int) -> None:
    values = np.random.default_rng(0).normal(size=(rows, 128)).astype(np.float32)
    values[1], values[2, 7] = np.nan, np.nan
    scales = jax.jit(lambda x: quantized_rows(jnp.pad(x, ((0, 16), (0, 0))))[1])(values)
    assert np.flatnonzero(np.isnan(scales)).tolist() == [1, 2]


WIDE = GriffinConfig(600, 128, 64, 1, 128, (RECURRENT,), window=16, tied=False)
drawn = jax.jit(
    partial(
        next_tokens,
        Griffin(WIDE, jnp.bfloat16, "interpret"),
        features=SamplingFeatures(draws=True),
    )
)


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_tpus_head_draws_from_its_own_matrix_and_finds_nan(
    temperature: float, quantized: bool
) -> None:
    rng = np.random.default_rng(0)
    table = jnp.asarray(rng.normal(size=(WIDE.vocab_size, WIDE.width)), jnp.bfloat16)
    hidden = rng.normal(size=(16, WIDE.width)).astype(np.float32)
    hidden[5] = np.nan
    head: dict[str, Any] = {"kernel": table}
    if quantized:
        numbers, scales = quantized_weights(np.asarray(table))
        head = {"kernel": jnp.asarray(numbers), "kernel_scale": jnp.asarray(scales)}
    params = {"lm_head": head, "embedder": {"embedding": table[::-1]}}
    state = empty_slots(WIDE, 16, jnp.dtype(jnp.bfloat16), SamplingFeatures())
    slots = replace(state.slots, active=jnp.ones(16, bool), temperature=jnp.full(16, temperature))
    state = state._replace(slots=slots)
    found = np.asarray(drawn(params, jnp.asarray(hidden), state).token)
    assert np.flatnonzero(found < 0).tolist() == [5]
    if temperature == 0:
        largest = (hidden @ np.asarray(table, np.float32).T).argmax(-1)
        assert (found == largest).mean() > 0.8


@pytest.mark.parametrize("at", [0, 300, 599])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_tpus_head_finds_nan_in_any_block(temperature: float, at: int) -> None:
    from tests.kernels import test_head as kernel

    spoilt = kernel.TABLE.at[at, 3].set(jnp.nan)
    rate = jnp.full(16, temperature)
    choice = kernel.choose(
        *(kernel.HIDDEN[:16], spoilt, None, rate, jnp.zeros((16, kernel.BLOCKS))),
        soft_cap=kernel.CAP,
        interpret=True,
    )
    found = kernel.token_of(choice, rate, jnp.full(16, 0.5))
    assert np.asarray(found).tolist() == [-1] * 16


def test_rings_that_other_rows_may_read_hold_numbers_only() -> None:
    """A TPU's decode kernel weighs stale slots of other rows by 0, and 0 times NaN is NaN."""
    params = params_with(np.nan, EMBEDDING)
    model = Griffin(CONFIG, jnp.float32, "interpret")
    tokens, lengths = jnp.asarray([[2, BAD, 7]]), jnp.asarray([3])
    state = init_state(CONFIG, 1, jnp.float32)
    prefill = jax.jit(partial(model.apply, method="prefill"))
    _, after = prefill({"params": params}, tokens, lengths, state)
    assert np.isfinite(after.blocks[1].keys).all()
    assert np.isfinite(after.blocks[1].values).all()
