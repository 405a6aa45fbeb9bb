"""Orbax checkpoints that a training left: the parameters are found, and what was taken is said."""

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax.training.train_state import TrainState

from rgpipeline.errors import WeightsError
from rgpipeline.model.weights.checkpoint import open_checkpoint
from rgpipeline.model.weights.loading import load
from tests.model.golden import FOLDER
from tests.sources import source

GOLDEN = FOLDER / "a" / "official"


@pytest.fixture(scope="module")
def params() -> Any:
    return ocp.PyTreeCheckpointer().restore(GOLDEN)["params"]


@pytest.fixture(scope="module")
def state(params: Any) -> dict[str, Any]:
    return {"params": params, "opt_state": optax.adam(1e-3).init(params), "step": 7}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """With the configuration that an official checkpoint lacks."""
    shutil.copy(FOLDER / "a" / "hf" / "config.json", tmp_path)
    return tmp_path


def save(folder: Path, tree: Any) -> Path:
    ocp.PyTreeCheckpointer().save(folder, tree)
    return folder


@cache
def golden() -> Any:
    return load(source(GOLDEN, "float32"))[1]


def assert_golden(folder: Path) -> None:
    found = load(source(folder, "float32"))[1]
    jax.tree.map(np.testing.assert_array_equal, found, golden())


def scaled(params: Any, factor: float) -> Any:
    return jax.tree.map(lambda leaf: leaf * factor, params)


def test_the_parameters_in_a_training_state_are_read(root: Path, state: dict[str, Any]) -> None:
    folder = save(root / "state", state)
    assert_golden(folder)
    assert open_checkpoint(source(folder)).note == "took params and left opt_state, step"


def test_the_parameters_in_a_flax_train_state_are_read(root: Path, params: Any) -> None:
    made = TrainState.create(apply_fn=lambda: None, params=params, tx=optax.adamw(1e-3))
    assert_golden(save(root / "state", made))


def test_variables_in_a_training_state_are_read(root: Path, params: Any) -> None:
    assert_golden(save(root / "state", {"params": {"params": params}, "name": "a", "step": 3}))


def test_an_average_of_the_parameters_is_left(root: Path, params: Any) -> None:
    tree = {"params": params, "ema_params": scaled(params, 2), "step": 3}
    assert_golden(save(root / "state", tree))


def test_several_sets_of_parameters_are_named(root: Path, params: Any) -> None:
    folder = save(root / "state", {"teacher": params, "student": params})
    with pytest.raises(WeightsError, match="several sets of parameters: student, teacher"):
        load(source(folder))


def manage(root: Path, state: dict[str, Any], **options: Any) -> Path:
    """Steps 5 and 10: twice the golden parameters, and those."""
    shutil.copy(FOLDER / "a" / "hf" / "config.json", root)
    manager = ocp.CheckpointManager(root, options=ocp.CheckpointManagerOptions(**options))
    for step, factor in ((5, 2.0), (10, 1.0)):
        tree = {**state, "params": scaled(state["params"], factor)}
        manager.save(step, args=ocp.args.StandardSave(tree))
    manager.wait_until_finished()
    manager.close()
    return root


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory, state: dict[str, Any]) -> Path:
    return manage(tmp_path_factory.mktemp("managed"), state)


def test_a_managers_latest_step_is_taken(managed: Path) -> None:
    assert_golden(managed)
    assert "10/default, the latest of 2 steps; took params" in open_checkpoint(source(managed)).note


def test_the_latest_of_steps_with_a_prefix_is_taken(tmp_path: Path, state: dict[str, Any]) -> None:
    folder = manage(tmp_path, state, step_prefix="ckpt", step_format_fixed_length=8)
    assert "ckpt_00000010/default, the latest of 2 steps" in open_checkpoint(source(folder)).note
    assert_golden(folder)


def test_a_step_that_was_never_finished_is_not_taken(managed: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(managed, tmp_path / "run")
    (folder / "20").mkdir()
    (folder / "30.orbax-checkpoint-tmp").mkdir()
    assert_golden(folder)
    assert "10/default, the latest" in open_checkpoint(source(folder)).note


def test_another_step_is_taken_by_its_own_folder(managed: Path) -> None:
    found = load(source(managed / "5", "float32"))[1]
    jax.tree.map(lambda one, other: np.testing.assert_array_equal(one, 2 * other), found, golden())


def test_of_several_items_the_parameters_are_taken(root: Path, params: Any) -> None:
    manager = ocp.CheckpointManager(root / "run")
    items = {"meta": ocp.args.JsonSave({"a": 1}), "opt": ocp.args.StandardSave({"x": np.ones(2)})}
    manager.save(3, args=ocp.args.Composite(params=ocp.args.StandardSave(params), **items))
    manager.wait_until_finished()
    manager.close()
    shutil.copy(root / "config.json", root / "run")
    assert_golden(root / "run")
    assert_golden(root / "run" / "3")


def test_what_is_no_griffin_says_what_it_holds(root: Path) -> None:
    folder = save(root / "state", {"params": {"dense": {"kernel": np.ones((2, 2))}}})
    with pytest.raises(WeightsError, match="it holds dense/kernel"):
        load(source(folder))


def test_an_official_checkpoint_has_no_head_of_its_own(root: Path, params: Any) -> None:
    fields = json.loads((root / "config.json").read_text())
    (root / "config.json").write_text(json.dumps({**fields, "tie_word_embeddings": False}))
    with pytest.raises(WeightsError, match="tie_word_embeddings False: an official checkpoint"):
        load(source(save(root / "state", {"params": params})))
