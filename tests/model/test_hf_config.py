"""A config.json says what transformers' RecurrentGemmaConfig would make of it."""

from dataclasses import replace
from typing import Any

import pytest

from rgpipeline.errors import WeightsError
from rgpipeline.model.config import ATTENTION, RECURRENT, GriffinConfig, known_config
from rgpipeline.model.weights import hf_config
from rgpipeline.model.weights.hf_config import hf_fields

# google/recurrentgemma-2b's, as it is published.
RELEASED = {
    "_block_types": ["recurrent", "recurrent", "attention"],
    "architectures": ["RecurrentGemmaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attention_window_size": 2048,
    "block_types": ["recurrent", "recurrent", "attention"],
    "bos_token_id": 2,
    "conv1d_width": 4,
    "eos_token_id": 1,
    "final_w_init_variance_scale": 0.07692307692307693,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 2560,
    "intermediate_size": 15360,
    "logits_soft_cap": 30.0,
    "lru_width": 2560,
    "model_type": "recurrent_gemma",
    "num_attention_heads": 10,
    "num_hidden_layers": 26,
    "num_key_value_heads": 1,
    "pad_token_id": 0,
    "partial_rotary_factor": 0.5,
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": 256000,
    "w_init_variance_scale": 0.01,
}
HAWK = {"block_types": ["recurrent"], "num_hidden_layers": 3}


def parsed(**changes: Any) -> GriffinConfig:
    return hf_config.parse({**RELEASED, **changes}, "config.json")


def without(*keys: str) -> GriffinConfig:
    fields = {key: value for key, value in RELEASED.items() if key not in keys}
    return hf_config.parse(fields, "config.json")


def fault_of(**changes: Any) -> str:
    with pytest.raises(WeightsError) as caught:
        parsed(**changes)
    return str(caught.value)


def test_the_released_file_is_the_built_in_model() -> None:
    assert parsed() == known_config("recurrentgemma-2b")


def test_absent_keys_have_transformers_defaults() -> None:
    absent = set(RELEASED) - {"model_type", "intermediate_size"}
    assert without(*absent) == replace(known_config("recurrentgemma-2b"), kv_heads=10)


def test_a_recurrence_without_a_width_is_as_wide_as_the_model() -> None:
    assert (
        hf_config.parse(
            {**RELEASED, "hidden_size": 640, "head_dim": 64, "lru_width": None}, "config.json"
        ).lru_width
        == 640
    )


@pytest.mark.parametrize("key", ["block_types", "_block_types", "layers_block_type"])
def test_block_types_have_had_three_names(key: str) -> None:
    fields = {k: v for k, v in RELEASED.items() if not k.endswith("block_types")}
    config = hf_config.parse({**fields, key: [ATTENTION, RECURRENT]}, "config.json")
    assert config.block_types[:3] == (ATTENTION, RECURRENT, ATTENTION)


def test_the_last_cycle_of_blocks_may_be_cut_short() -> None:
    assert parsed(num_hidden_layers=5).block_types == (
        RECURRENT, RECURRENT, ATTENTION, RECURRENT, RECURRENT,
    )  # fmt: skip


@pytest.mark.parametrize("cap", [None, 0, 0.0])
def test_no_soft_cap_is_null_or_zero(cap: float | None) -> None:
    assert parsed(logits_soft_cap=cap).logits_soft_cap == 0.0


def test_embeddings_are_scaled_unless_the_file_says_otherwise() -> None:
    assert parsed().scale_embeddings
    assert not parsed(embeddings_scale_by_sqrt_dim=False).scale_embeddings


def test_end_tokens_are_one_or_several() -> None:
    assert parsed(eos_token_id=[1, 107, 1]).eos_ids == (1, 107)


def test_the_generation_configs_end_tokens_count() -> None:
    generation = {"eos_token_id": [1, 107]}
    config = hf_config.parse(RELEASED, "config.json", generation=generation)
    assert config.eos_ids == (1, 107)


def test_a_hawk_may_say_anything_about_attention() -> None:
    config = parsed(
        **HAWK,
        hidden_size=50,
        lru_width=60,
        num_attention_heads=3,
        num_key_value_heads=3,
        head_dim=None,
        attention_window_size=0,
        rope_theta=1.0,
    )
    assert config.block_types == (RECURRENT,) * 3


@pytest.mark.parametrize("config", [known_config("griffin-7b"), known_config("hawk-7b")])
def test_what_is_exported_is_parsed_as_the_same_model(config: GriffinConfig) -> None:
    assert hf_config.parse(hf_fields(config), "config.json") == config


@pytest.mark.parametrize("model_type", ["llama", "gemma2", None])
def test_other_models_are_refused_by_name(model_type: str | None) -> None:
    assert f"model_type {model_type!r} is not a Griffin" in fault_of(model_type=model_type)


def test_every_fault_is_told_at_once() -> None:
    told = fault_of(hidden_size="wide", num_hidden_layers=0, block_types=["mamba"])
    assert "hidden_size must be a positive whole number, not 'wide'" in told
    assert "num_hidden_layers must be a positive whole number, not 0" in told
    assert "block_types must be a list of 'recurrent' and 'attention', not ['mamba']" in told


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rope_theta": 1e6}, "rope_theta 1000000.0: only 10000.0"),
        ({"rope_parameters": {"rope_theta": 5e5}}, "rope_theta 500000.0: only 10000.0"),
        ({"rope_scaling": {"rope_type": "linear"}}, "rope_type 'linear': only 'default'"),
        ({"num_key_value_heads": 3}, "num_key_value_heads 3 does not divide 10 heads"),
        ({"num_key_value_heads": -1}, "num_key_value_heads must be a positive whole number"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings must be true or false"),
        ({"hidden_activation": "relu"}, "hidden_activation 'relu'"),
        ({"head_dim": 128}, "head_dim 128: only hidden_size / num_attention_heads, 256"),
        ({"num_attention_heads": 7}, "hidden_size 2560 is not a multiple of the 7 heads"),
        ({"num_attention_heads": 1280, "head_dim": None}, "head width 2 is not a multiple of 4"),
        ({"intermediate_size": 7}, "intermediate_size 7 is odd"),
        ({"logits_soft_cap": -1}, "logits_soft_cap must be a number, 0 or more, not -1"),
        ({"embeddings_scale_by_sqrt_dim": 1}, "must be true or false, not 1"),
        ({"eos_token_id": ["</s>"]}, "eos_token_id must be a token id, not ['</s>']"),
        ({"conv1d_width": 1}, "conv1d_width 1 is less than 2"),
    ],
)
def test_what_the_arithmetic_cannot_do_is_refused(changes: dict[str, Any], told: str) -> None:
    assert told in fault_of(**changes)
