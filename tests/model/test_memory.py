"""Opening weights costs the memory of the weights, whatever their store, and little more."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from rgpipeline.model.config import GRIFFIN_CYCLE, GriffinConfig, cycle
from rgpipeline.model.weights import hf_layout
from tests.model import hf_folder
from tests.processes import output_of
from tests.storage.servers import Place

# Wide rather than deep: each layer is compiled, and no tensor is a large part of the whole.
LARGE = GriffinConfig(21_000, 1536, 5120, 8, 1536, cycle(GRIFFIN_CYCLE, 9), window=512)
NARROW = replace(LARGE, vocab_size=512, width=64, mlp_width=64, heads=2, lru_width=64)


class Cost(NamedTuple):
    weights: int  # bytes
    opening: int  # at most, in bytes over what the process had before
    generating: int  # the same, with programs compiled
    tokens: list[list[int]]


def cost(weights: str, dtype: str, options: dict[str, Any], *adapter: str) -> Cost:
    """Of opening and generating, in a process of its own."""
    arguments = (weights, dtype, json.dumps(options), *adapter)
    told = output_of("tests.model.peak_memory", *arguments, environment={"JAX_PLATFORMS": "cpu"})
    return Cost(**json.loads(told))


def write(folder: Path, config: GriffinConfig) -> Path:
    """Random weights in four bfloat16 shards, all cut from the same few."""
    few = (np.random.default_rng(0).standard_normal(1 << 20, np.float32) / 32).astype(
        ml_dtypes.bfloat16
    )
    tensors = {
        name: np.resize(few, shape)
        for recipe in hf_layout.recipes(config)
        for name, shape in recipe.sources
    }
    return hf_folder.write(folder, config, tensors, shards=4)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("narrow"), NARROW)


def test_300_million_parameters_from_a_store_cost_their_weights_and_less_than_half_as_much_again(
    tmp_path: Path, narrow: Path, new_place: Callable[[str], Place]
) -> None:
    """No second copy, neither while they are opened nor while programs are compiled and run.

    A seventh more was seen of opening, and a quarter more of merging an adapter on a busy machine:
    what was read ahead waits for the merging, which is done in float32, one tensor at a time. What
    a process needs for programs of as many layers, as the narrow model shows it, does not count;
    it is 320 to 380 MB, as the compiler's threads happen to run.
    """
    folder, place = write(tmp_path / "large", LARGE), new_place("seaweedfs")
    fs, path = place.filesystem()
    fs.put(f"{folder}/", path, recursive=True)
    programs = cost(str(narrow), "bfloat16", {}).generating
    large = cost(place.url, "bfloat16", place.storage_options)
    assert large.weights > 590e6
    assert large.opening < 1.5 * large.weights
    assert large.generating - programs < 1.5 * large.weights
    assert [len(tokens) for tokens in large.tokens] == [8, 8]
    merged = cost(place.url, "bfloat16", place.storage_options, str(write_adapter(tmp_path)))
    assert merged.opening < 1.5 * merged.weights
    assert merged.generating - programs < 1.5 * merged.weights
    assert merged.tokens != large.tokens


def write_adapter(folder: Path) -> Path:
    """A LoRA of the large model's embedding and all its linear layers."""
    embedding, rng = "model.embed_tokens", np.random.default_rng(1)
    tensors = {}
    for name, shape in (source for recipe in hf_layout.recipes(LARGE) for source in recipe.sources):
        module = name.removesuffix(".weight")
        if name == module or len(shape) != 2:
            continue
        outputs, inputs = shape[::-1] if module == embedding else shape
        parts = (f"lora_{'embedding_' * (module == embedding)}{one}" for one in "AB")
        for part, size in zip(parts, ((8, inputs), (outputs, 8)), strict=True):
            suffix = "" if module == embedding else ".weight"
            value = rng.standard_normal(size, np.float32) / 16
            tensors[f"base_model.model.{module}.{part}{suffix}"] = value
    save_file(tensors, folder / "adapter_model.safetensors")
    fields = {"peft_type": "LORA", "r": 8, "lora_alpha": 8}
    (folder / "adapter_config.json").write_text(json.dumps(fields))
    return folder
