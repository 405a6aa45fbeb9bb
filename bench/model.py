"""The model that all peers run: random weights, made once, in Hugging Face's layout."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from safetensors.numpy import save_file

from rgpipeline.model.config import GRIFFIN_CYCLE, GriffinConfig, cycle
from rgpipeline.model.weights import hf_layout

# 183 M parameters; and a model small enough to test the bench itself.
CONFIGS = {
    "183m": GriffinConfig(32_000, 1024, 3072, 8, 1024, cycle(GRIFFIN_CYCLE, 12), window=512),
    # A vocabulary of Gemma's size, for what is done for each token of it.
    "256k": GriffinConfig(256_000, 256, 768, 2, 256, cycle(GRIFFIN_CYCLE, 3), window=128),
    # RecurrentGemma-2B's shapes.
    "2b": GriffinConfig(256_000, 2560, 7680, 10, 2560, cycle(GRIFFIN_CYCLE, 26), window=2048),
    "tiny": GriffinConfig(512, 64, 192, 4, 64, cycle(GRIFFIN_CYCLE, 3), window=32),
}

# The paper draws the decay a (at gate 1) so that a^2 is uniform between these squared.
_LEAST_DECAY, _GREATEST_DECAY = 0.9, 0.999


def model_folder(name: str, under: Path, seed: int = 0, dtype: DTypeLike = np.float32) -> Path:
    """The folder of the model `name`, written at first use: safetensors in `dtype`, config.json."""
    folder = under / "models" / name
    if not (folder / "config.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        save_file(dict(_tensors(CONFIGS[name], seed, dtype)), folder / "model.safetensors")
        # Last: it marks the folder as complete.
        fields = _fields(CONFIGS[name]) | {"torch_dtype": np.dtype(dtype).name}
        (folder / "config.json").write_text(json.dumps(fields, indent=1))
    return folder


def _tensors(
    config: GriffinConfig, seed: int, dtype: DTypeLike
) -> Iterator[tuple[str, NDArray[Any]]]:
    rng = np.random.default_rng(seed)
    for recipe in hf_layout.recipes(config):
        for name, shape in recipe.sources:
            yield name, _draw(rng, name, shape, config).astype(dtype)


def _draw(
    rng: np.random.Generator, name: str, shape: tuple[int, ...], config: GriffinConfig
) -> NDArray[np.float32]:
    """Normal weights of variance 1 / inputs, as a model has them before training."""
    if name.endswith("recurrent_param"):
        square = rng.uniform(_LEAST_DECAY**2, _GREATEST_DECAY**2, shape)
        decay: NDArray[np.float32] = np.log(np.expm1(-0.5 * np.log(square))).astype(np.float32)
        return decay
    drawn = rng.standard_normal(shape, np.float32)
    if name.endswith(("bias", "norm.weight")):
        return drawn * np.float32(0.1)
    last = name.split(".")[-2] in ("linear_out", "o_proj", "down_proj")
    return drawn * np.float32(math.sqrt((2 / config.depth if last else 1) / shape[-1]))


def _fields(config: GriffinConfig) -> dict[str, object]:
    return {
        "model_type": "recurrent_gemma",
        "architectures": ["RecurrentGemmaForCausalLM"],
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "intermediate_size": 2 * config.mlp_width,
        "num_attention_heads": config.heads,
        "num_key_value_heads": 1,
        "num_hidden_layers": config.depth,
        "lru_width": config.lru_width,
        "block_types": list(GRIFFIN_CYCLE),
        "attention_window_size": config.window,
        "conv1d_width": config.conv_width,
        "logits_soft_cap": config.logits_soft_cap,
        "embeddings_scale_by_sqrt_dim": config.scale_embeddings,
        "rms_norm_eps": 1e-6,
        "bos_token_id": config.bos_id,
        "eos_token_id": config.eos_ids[0],
        "pad_token_id": config.pad_id,
    }
