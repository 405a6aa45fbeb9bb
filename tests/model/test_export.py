"""What is saved is what is loaded again."""

from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest

from rgpipeline.model.config import GRIFFIN_CYCLE, RECURRENT, GriffinConfig, cycle
from rgpipeline.model.params import random_params
from rgpipeline.model.weights.hf_layout import save
from rgpipeline.model.weights.loading import load
from tests.sources import source

MODELS = {
    "recurrentgemma": GriffinConfig(
        67, 24, 20, 2, 24, cycle(GRIFFIN_CYCLE, 4), window=8, eos_ids=(1, 9)
    ),
    "griffin": GriffinConfig(
        67, 24, 20, 2, 16, GRIFFIN_CYCLE, logits_soft_cap=0.0, scale_embeddings=False
    ),
    "hawk": GriffinConfig(67, 22, 20, 4, 36, (RECURRENT,) * 2, window=3),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_is_loaded_as_it_was(tmp_path: Path, name: str, dtype: str) -> None:
    drawn = random_params(MODELS[name], 0, "float32")
    params = jax.tree.map(lambda leaf: leaf.astype(ml_dtypes.bfloat16).astype(np.float32), drawn)
    save(tmp_path, MODELS[name], params, dtype)
    config, found, _ = load(source(tmp_path, "float32"))
    assert config == MODELS[name]
    jax.tree.map(np.testing.assert_array_equal, found, params)
