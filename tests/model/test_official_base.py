"""An official checkpoint as the base of an adapter: the same model as with the other layout."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rgpipeline.model.weights.checkpoint import open_checkpoint
from rgpipeline.model.weights.loading import load
from rgpipeline.model.weights.renamed_official import renamed
from tests.model.golden import FOLDER
from tests.sources import source

OFFICIAL, HF = FOLDER / "a" / "official", FOLDER / "a" / "hf"
RANK = 2


@pytest.fixture
def adapter(tmp_path: Path) -> str:
    """Of every matrix of two layers, and of the embedding; random values."""
    rng = np.random.default_rng(0)
    tensors, base = {}, load_file(HF / "model.safetensors")
    for name, value in base.items():
        module, before = name.removesuffix(".weight"), "base_model.model."
        outputs, inputs = value.shape if value.ndim == 2 else (0, 0)
        if name.endswith("embed_tokens.weight"):
            tensors[f"{before}{module}.lora_embedding_A"] = rng.normal(size=(RANK, outputs))
            tensors[f"{before}{module}.lora_embedding_B"] = rng.normal(size=(inputs, RANK))
        elif name.endswith("_proj.weight") or (".linear_" in name and value.ndim == 2):
            tensors[f"{before}{module}.lora_A.weight"] = rng.normal(size=(RANK, inputs))
            tensors[f"{before}{module}.lora_B.weight"] = rng.normal(size=(outputs, RANK))
    tensors |= {"base_model.model.model.final_norm.weight": rng.normal(size=64)}
    folder = tmp_path / "adapter"
    folder.mkdir()
    save_file(
        {n: v.astype(np.float32) for n, v in tensors.items()}, folder / "adapter_model.safetensors"
    )
    fields = {"peft_type": "LORA", "r": RANK, "modules_to_save": ["final_norm"]}
    (folder / "adapter_config.json").write_text(json.dumps(fields))
    return str(folder)


@pytest.mark.parametrize("case", ["a", "a3_hawk"])
def test_its_tensors_have_the_names_shapes_and_values_of_the_other_folder(case: str) -> None:
    theirs = load_file(FOLDER / case / "hf" / "model.safetensors")
    reader = renamed(open_checkpoint(source(FOLDER / case / "official"))).reader
    assert {n: tensor.shape for n, tensor in reader.tensors.items()} == {
        n: value.shape for n, value in theirs.items()
    }
    for name, value in theirs.items():
        np.testing.assert_array_equal(reader.read(name), value)


@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_merged_with_an_adapter_it_is_the_same_model(adapter: str, quantize: str) -> None:
    config, params, _ = load(source(OFFICIAL, "float32", adapter=adapter, quantize=quantize))
    told, expected, _ = load(source(HF, "float32", adapter=adapter, quantize=quantize))
    assert config == told
    jax.tree.map(np.testing.assert_array_equal, params, expected)


def test_it_may_be_named_as_the_base(adapter: str) -> None:
    _, params, _ = load(source(adapter, "float32", base=str(OFFICIAL)))
    _, expected, _ = load(source(HF, "float32", adapter=adapter))
    jax.tree.map(np.testing.assert_array_equal, params, expected)
