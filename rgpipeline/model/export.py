"""Writing a model in the Hugging Face layout: the inverse of `hf_layout` and `hf_config`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jax.typing import DTypeLike
from safetensors.numpy import save_file

from rgpipeline.model import hf_layout
from rgpipeline.model.config import GriffinConfig
from rgpipeline.model.params import Params, flatten
from rgpipeline.model.recipes import HostArray, Recipe


def save(folder: Path, config: GriffinConfig, params: Params, dtype: DTypeLike) -> None:
    """Writes `model.safetensors` in `dtype`, then `config.json`, into an existing folder."""
    leaves = flatten(params)
    tensors = {
        name: np.ascontiguousarray(array.astype(np.dtype(dtype)))
        for recipe in hf_layout.recipes(config)
        for name, array in _taken_apart(recipe, np.asarray(leaves[recipe.path]))
    }
    save_file(tensors, folder / "model.safetensors")
    fields = hf_fields(config) | {"torch_dtype": np.dtype(dtype).name}
    (folder / "config.json").write_text(json.dumps(fields, indent=1) + "\n")


def hf_fields(config: GriffinConfig) -> dict[str, Any]:
    """The `config.json` from which `hf_config.parse` makes this configuration."""
    return {
        "architectures": ["RecurrentGemmaForCausalLM"],
        "model_type": "recurrent_gemma",
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "intermediate_size": 2 * config.mlp_width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "num_key_value_heads": 1,
        "head_dim": config.head_dim,
        "lru_width": config.lru_width,
        "block_types": list(config.block_types),
        "attention_window_size": config.window,
        "conv1d_width": config.conv_width,
        "logits_soft_cap": config.logits_soft_cap,
        "embeddings_scale_by_sqrt_dim": config.scale_embeddings,
        "hidden_activation": "gelu_pytorch_tanh",
        "partial_rotary_factor": 0.5,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": config.tied,
        "bos_token_id": config.bos_id,
        "eos_token_id": list(config.eos_ids) if len(config.eos_ids) > 1 else config.eos_ids[0],
        "pad_token_id": config.pad_id,
    }


def _taken_apart(recipe: Recipe, value: HostArray) -> Iterator[tuple[str, HostArray]]:
    """The checkpoint's tensors that a parameter is made of."""
    sources, path = recipe.sources, recipe.path
    if path[-1] == "conv_kernel":
        value = value.T
    if path[-2:] == ("gates", "kernel"):
        value = np.stack(np.split(value, 2, axis=-1))
    parts = value if len(sources) > 1 else [value]
    for (name, shape), part in zip(sources, parts, strict=True):
        yield name, part.reshape(shape)
