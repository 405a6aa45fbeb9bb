"""Several heads of keys and values (tests/golden/kv_heads): all of the heads, and half of them."""

import json
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rgpipeline.engine.programs.lowering import tree_bytes, worker_programs
from rgpipeline.engine.sizing import state_bytes
from rgpipeline.generator import Generator
from rgpipeline.model.griffin_state import init_state
from rgpipeline.model.weights.hf_layout import save
from rgpipeline.model.weights.loading import load
from rgpipeline.records import ResolvedSettings
from tests.model.golden import FOLDER
from tests.model.running import Runner, cut, padded, worst
from tests.sources import source

pytestmark = pytest.mark.usefixtures("compiled_fast")

CASES = {"all": 4, "half": 2}  # of 4 query heads
TOLERANCE = 2e-4
every_case = pytest.mark.parametrize("case", CASES)


class Case:
    """One golden model, and what transformers says of it."""

    def __init__(self, name: str) -> None:
        self.folder = FOLDER / "kv_heads" / name / "hf"
        expected = np.load(self.folder.parent / "expected.npz")
        self.prompts, self.logits, self.greedy = (
            [expected[f"{kind}_{i}"] for i in range(3)] for kind in ("prompt", "logits", "greedy")
        )
        self.runner = Runner(*load(source(self.folder, "float32"))[:2])


@cache
def case_of(name: str) -> Case:
    return Case(name)


@cache
def generator(quantize: str = "none") -> Generator:
    folder = case_of("all").folder
    return Generator.load(folder, dtype="float32", quantize=quantize, slots=2, prefill_chunk=16)


@every_case
def test_the_heads_are_those_of_the_configuration(case: str) -> None:
    assert case_of(case).runner.config.kv_heads == CASES[case]


@every_case
def test_ragged_batches_in_chunks_give_transformers_logits(case: str) -> None:
    golden = case_of(case)
    found, _ = golden.runner.in_chunks(golden.prompts, 5)
    assert worst(found, golden.logits) < TOLERANCE


def test_decoding_token_by_token_gives_transformers_logits() -> None:
    golden = case_of("half")
    assert worst(golden.runner.token_by_token(golden.prompts), golden.logits) < TOLERANCE


def test_forward_gives_transformers_logits() -> None:
    golden = case_of("half")
    tokens, lengths = padded(golden.prompts)
    found = cut(np.asarray(golden.runner.forward(tokens)), lengths)
    assert worst(found, golden.logits) < TOLERANCE


def test_greedy_continuations_in_fewer_slots_than_prompts_are_transformers() -> None:
    golden = case_of("all")
    sampling = {"temperature": 0, "max_tokens": len(golden.greedy[0]), "ignore_eos": True}
    found = generator().generate([prompt.tolist() for prompt in golden.prompts], sampling)
    assert [one.token_ids for one in found] == [row.tolist() for row in golden.greedy]


@pytest.mark.parametrize(("quantize", "tolerance"), [("none", TOLERANCE), ("int8", 0.25)])
def test_scores_are_transformers(quantize: str, tolerance: float) -> None:
    golden = case_of("all")
    scores = generator(quantize).score([prompt.tolist() for prompt in golden.prompts])
    for score, prompt, logits in zip(scores, golden.prompts, golden.logits, strict=True):
        logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        expected = logprobs[np.arange(len(prompt) - 1), prompt[1:]]
        np.testing.assert_allclose(score, expected, atol=tolerance)


def test_an_adapter_of_keys_and_values_gives_what_peft_merged() -> None:
    folder = FOLDER / "kv_heads" / "half" / "adapter"
    says: dict[str, Any] = json.loads((folder / "expected.json").read_text())
    tokens = np.array(says["tokens"])
    config, params, _ = load(source(case_of("half").folder, "float32", adapter=str(folder)))
    logits = np.asarray(Runner(config, params).forward(tokens[None]))[0]
    logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    found = logprobs[np.arange(len(tokens) - 1), tokens[1:]]
    np.testing.assert_allclose(found, says["logprobs"], atol=TOLERANCE)


def test_an_exported_model_is_the_same(tmp_path: Any) -> None:
    ours = case_of("half").runner
    save(tmp_path, ours.config, ours.params, np.float32)
    config, params, _ = load(source(tmp_path, "float32"))
    assert config == ours.config
    jax.tree.map(np.testing.assert_array_equal, params, ours.params)


@pytest.mark.parametrize(
    ("heads", "dtype", "quantize"),
    product([1, 2, 4], ["float32", "bfloat16"], ["none", "int8"]),
)
def test_memory_is_sized_by_what_a_state_takes(heads: int, dtype: Any, quantize: Any) -> None:
    config = replace(case_of("half").runner.config, kv_heads=heads)
    rows, quantized = 8, quantize == "int8"
    state = jax.eval_shape(lambda: init_state(config, rows, jnp.dtype(dtype), quantized))
    taken = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state.blocks))
    assert state_bytes(config, dtype, quantize) * rows == taken + 64 * rows


def test_fit_counts_the_rings_of_each_head() -> None:
    config = case_of("half").runner.config
    settings = ResolvedSettings("float32", slots=4, prefill_chunk=16, steps_per_dispatch=2)
    one, two = (
        tree_bytes(worker_programs(replace(config, kv_heads=heads), settings, None).state)
        for heads in (1, 2)
    )
    attention = config.block_types.count("attention")
    assert two - one == settings.slots * attention * 2 * config.window * config.head_dim * 4
