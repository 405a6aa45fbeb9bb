"""Writing checkpoints in the Hugging Face layout: the loader's opposite, for tests."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from rgpipeline.model.config import GriffinConfig
from rgpipeline.model.weights import hf_layout
from rgpipeline.model.weights.hf_config import hf_fields


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
    (folder / "config.json").write_text(json.dumps(hf_fields(config)))
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
