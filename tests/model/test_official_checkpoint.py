"""Checkpoints as the official library and orbax write them, of any age, and their missing facts."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest

from rgpipeline.errors import WeightsError
from rgpipeline.model.config import ATTENTION, GRIFFIN_CYCLE, RECURRENT, GriffinConfig, known_config
from rgpipeline.model.weights import official_folder
from rgpipeline.model.weights.hf_config import hf_fields
from rgpipeline.model.weights.loading import load
from tests.model.official import ours_from_official, random_official_params
from tests.sources import source

CONFIG = GriffinConfig(67, 24, 20, 2, 16, GRIFFIN_CYCLE, window=8, logits_soft_cap=5.0)
UNTOLD = {"model_type": "recurrent_gemma", "attention_window_size": 8, "logits_soft_cap": 5.0}


@pytest.fixture(scope="module")
def params() -> Any:
    return random_official_params(CONFIG, 0)


def write(folder: Path, tree: Any, config: dict[str, Any] | None = None, **layout: bool) -> Path:
    handler = ocp.PyTreeCheckpointHandler(**layout)
    ocp.Checkpointer(handler).save(folder, tree)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def fault_of(folder: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        load(source(folder))
    return str(caught.value)


@pytest.mark.parametrize("top", ["params", None])
@pytest.mark.parametrize(
    "layout", [{}, {"use_ocdbt": False}, {"use_zarr3": True}], ids=["ocdbt", "zarr", "zarr3"]
)
def test_every_layout_of_orbax_is_read(
    tmp_path: Path, params: Any, layout: dict[str, bool], top: str | None
) -> None:
    tree = {top: params} if top else params
    config, found, _ = load(source(write(tmp_path / "w", tree, UNTOLD, **layout)))
    assert config == CONFIG
    jax.tree.map(np.testing.assert_array_equal, found, ours_from_official(CONFIG, params))


def test_what_newer_orbaxes_add_is_not_needed(tmp_path: Path, params: Any) -> None:
    folder = write(tmp_path / "w", jax.tree.map(jax.numpy.asarray, params), UNTOLD)
    for name in ("_CHECKPOINT_METADATA", "commit_success.txt", "_sharding"):
        (folder / name).unlink()
    shutil.rmtree(folder / "array_metadatas")
    assert load(source(folder))[0] == CONFIG


def test_bfloat16_is_kept(tmp_path: Path, params: Any) -> None:
    rounded = jax.tree.map(lambda leaf: leaf.astype(ml_dtypes.bfloat16), params)
    _, found, _ = load(source(write(tmp_path / "w", rounded, UNTOLD), "bfloat16"))
    expected = ours_from_official(CONFIG, rounded, ml_dtypes.bfloat16)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("place", ["w/config.json", "config.json", "hf/config.json"])
def test_the_configuration_may_lie_beside_the_checkpoint(
    tmp_path: Path, params: Any, place: str
) -> None:
    folder = write(tmp_path / "w", params)
    (tmp_path / "hf").mkdir()
    (tmp_path / place).write_text(json.dumps(hf_fields(CONFIG)))
    assert load(source(folder))[0] == CONFIG


def test_without_a_configuration_it_is_said_what_to_write_and_where(
    tmp_path: Path, params: Any
) -> None:
    folder = write(tmp_path / "w", params)
    told = fault_of(folder)
    assert "attention window" in told
    assert "put a config.json into the folder" in told
    example = told[told.index("{") :]
    (folder / "config.json").write_text(example)
    assert load(source(folder))[0].window == json.loads(example)["attention_window_size"]


@pytest.mark.parametrize("name", ["recurrentgemma-2b", "griffin-7b", "hawk-7b"])
def test_known_sizes_need_no_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A model of the released ones' proportions, with another vocabulary."""
    known = known_config(name)
    small = dataclasses.replace(
        known, width=32, mlp_width=24, lru_width=48, heads=2, block_types=known.block_types[:3]
    )
    monkeypatch.setattr(official_folder, "known_configs", lambda: (small,))
    mine = dataclasses.replace(small, vocab_size=77)
    folder = write(tmp_path / "w", random_official_params(mine, 0))
    assert load(source(folder))[0] == mine


def test_a_configuration_of_another_size_is_told_field_by_field(
    tmp_path: Path, params: Any
) -> None:
    other = dataclasses.replace(
        CONFIG, vocab_size=68, block_types=(RECURRENT, ATTENTION, RECURRENT)
    )
    told = fault_of(write(tmp_path / "w", params, hf_fields(other)))
    assert "vocab_size is 68, the tensors say 67" in told
    assert "block_types is ('recurrent', 'attention', 'recurrent'), the tensors say" in told


def test_a_configuration_that_leaves_the_window_out_is_no_help(tmp_path: Path, params: Any) -> None:
    folder = write(tmp_path / "w", params, {"model_type": "recurrent_gemma"})
    assert "attention_window_size is missing" in fault_of(folder)


def test_missing_and_unexpected_tensors_are_named(tmp_path: Path, params: Any) -> None:
    changed = {**params, "extra": {"w": np.zeros((2, 3), np.float32)}}
    changed["blocks.1"] = {k: v for k, v in params["blocks.1"].items() if k != "mlp_block"}
    told = fault_of(write(tmp_path / "w", changed, UNTOLD))
    assert "missing tensor blocks.1/mlp_block/ffw_down/kernel, shape [20, 24]" in told
    assert f"unexpected tensor extra/w in {tmp_path}/w, shape [2, 3]" in told


def test_what_is_no_griffin_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "w", {"layer": {"w": np.zeros((2, 3), np.float32)}})
    assert "not a checkpoint of the official Griffin library" in fault_of(folder)


def test_truncated_data_are_named_with_their_tensor(tmp_path: Path, params: Any) -> None:
    folder = write(tmp_path / "w", params, UNTOLD)
    largest = max(folder.rglob("*"), key=lambda path: path.stat().st_size)
    with largest.open("r+b") as raw:
        raw.truncate(largest.stat().st_size // 2)
    told = fault_of(folder)
    assert f"{folder}: tensor " in told
    assert "cannot be read" in told


@pytest.mark.parametrize("gone", ["_METADATA", "manifest.ocdbt"])
def test_a_half_copied_folder_is_known_for_one(tmp_path: Path, params: Any, gone: str) -> None:
    folder = write(tmp_path / "w", params, UNTOLD)
    (folder / gone).unlink()
    assert "an incomplete orbax checkpoint" in fault_of(folder)
