"""Writing checkpoints in the Hugging Face layout: the loader's opposite, for tests."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from rgpipeline.model import hf_layout
from rgpipeline.model.config import GriffinConfig


def config_fields(config: GriffinConfig) -> dict[str, Any]:
    return {
        "model_type": "recurrent_gemma",
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "intermediate_size": 2 * config.mlp_width,
        "num_attention_heads": config.heads,
        "lru_width": config.lru_width,
        "num_hidden_layers": config.depth,
        "block_types": list(config.block_types),
        "attention_window_size": config.window,
        "logits_soft_cap": config.logits_soft_cap,
        "embeddings_scale_by_sqrt_dim": config.scale_embeddings,
        "eos_token_id": list(config.eos_ids),
    }


def random_tensors(config: GriffinConfig, seed: int, dtype: Any) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: (rng.standard_normal(shape, np.float32) / 8).astype(dtype)
        for recipe in hf_layout.recipes(config)
        for name, shape in recipe.sources
    }


def write(
    folder: Path, config: GriffinConfig, tensors: dict[str, np.ndarray], shards: int = 1
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_fields(config)))
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return folder
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in list(tensors)[shard::shards]}
        save_file(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
