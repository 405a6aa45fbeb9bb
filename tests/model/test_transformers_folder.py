"""Folders as transformers 5's `save_pretrained` leaves them: whole, in shards, in bfloat16."""

import json
import shutil
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rgpipeline.model.weights.checkpoint import open_checkpoint
from rgpipeline.model.weights.loading import load
from tests.model.golden import FOLDER, Golden
from tests.sources import source

SAVED = FOLDER / "saved" / "a"
INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    return load_file(FOLDER / "a" / "hf" / "model.safetensors")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAVED, tmp_path / "saved"))


@pytest.mark.parametrize("golden", ["a"], indirect=True)
@pytest.mark.parametrize("sharded", [False, True])
def test_saved_in_float32_it_is_the_model_that_gives_the_official_logits(
    folder: Path, tensors: dict[str, np.ndarray], golden: Golden, sharded: bool
) -> None:
    if sharded:
        where = json.loads((folder / INDEX).read_text())["weight_map"]
        for file in set(where.values()):
            save_file({n: tensors[n] for n in where if where[n] == file}, folder / file)
    else:
        (folder / INDEX).unlink()
        save_file(tensors, folder / "model.safetensors")
    config, params, dtype = load(source(folder))
    assert (config, dtype) == (golden.runner.config, np.float32)
    jax.tree.map(np.testing.assert_array_equal, params, golden.runner.params)
    assert open_checkpoint(source(folder)).note == ""


def test_saved_in_bfloat16_its_tensors_are_those(
    folder: Path, tensors: dict[str, np.ndarray]
) -> None:
    (folder / INDEX).unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}))
    rounded = {name: value.astype(ml_dtypes.bfloat16) for name, value in tensors.items()}
    save_file(rounded, folder / "model.safetensors")
    _, params, _ = load(source(folder, "bfloat16"))
    embedding = np.asarray(params["embedder"]["embedding"])
    np.testing.assert_array_equal(embedding, rounded["model.embed_tokens.weight"])
