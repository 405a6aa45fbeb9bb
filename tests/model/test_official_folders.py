"""Official checkpoints as training scripts leave them, with the tokenizer of the release."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax.training.train_state import TrainState
from orbax.checkpoint import v1
from recurrentgemma.jax.utils import save_parameters

from rgpipeline.errors import WeightsError
from rgpipeline.model.param_tree import flatten
from rgpipeline.model.weights.checkpoint import open_checkpoint
from rgpipeline.model.weights.loading import load
from tests.model.golden import FOLDER, Golden
from tests.sources import source

OFFICIAL = FOLDER / "a" / "official"


@pytest.fixture(scope="module")
def params() -> Any:
    return jax.tree.map(jnp.asarray, ocp.PyTreeCheckpointer().restore(OFFICIAL)["params"])


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """The folder of a release: tokenizer.model, and a configuration, as the sizes are no known."""
    shutil.copy(FOLDER / "a" / "hf" / "config.json", tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"")
    return tmp_path


def by_manager(folder: Path, tree: Any) -> None:
    with ocp.CheckpointManager(folder) as manager:
        manager.save(20, args=ocp.args.StandardSave(tree))


def by_old_manager(folder: Path, tree: Any) -> None:
    with ocp.CheckpointManager(folder, ocp.PyTreeCheckpointer()) as manager:
        manager.save(20, tree)


def by_standard(folder: Path, tree: Any) -> None:
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, tree)


def state_of(params: Any) -> TrainState:
    return TrainState.create(apply_fn=lambda: None, params=params, tx=optax.sgd(1e-3))


SCRIPTS: dict[str, Callable[[Path, Any], object]] = {
    "recurrentgemma's save_parameters": lambda at, p: save_parameters(str(at), p),
    "save_parameters of variables": lambda at, p: save_parameters(str(at), {"params": p}),
    "StandardCheckpointer": by_standard,
    "StandardCheckpointer of a TrainState": lambda at, p: by_standard(at, state_of(p)),
    "StandardCheckpointer of nested states": lambda at, p: by_standard(
        at, {"state": {"params": p}}
    ),
    "CheckpointManager of a TrainState": lambda at, p: by_manager(at, state_of(p)),
    "CheckpointManager of orbax 0.4": lambda at, p: by_old_manager(at, {"params": p}),
    "orbax v1": lambda at, p: v1.save(at, {"params": p}),
}


@pytest.mark.parametrize("golden", ["a"], indirect=True)
@pytest.mark.parametrize("script", SCRIPTS)
def test_what_a_script_saved_is_the_model_that_gives_the_official_logits(
    release: Path, params: Any, golden: Golden, script: str
) -> None:
    folder = release / "tuned"
    SCRIPTS[script](folder, params)
    config, found, dtype = load(source(folder))
    assert (config, dtype) == (golden.runner.config, np.float32)
    jax.tree.map(np.testing.assert_array_equal, found, golden.runner.params)
    assert source(folder).tokenizer == str(release)


def test_in_bfloat16_its_tensors_are_those(release: Path, params: Any) -> None:
    by_manager(
        release / "tuned",
        {"params": jax.tree.map(lambda leaf: np.asarray(leaf).astype(ml_dtypes.bfloat16), params)},
    )
    _, found, _ = load(source(release / "tuned", "bfloat16"))
    expected = np.asarray(params["embedder"]["input_embedding"]).astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(flatten(found)["embedder", "embedding"], expected)


@pytest.mark.parametrize(
    "weights", ["2b-it", "run", "run/20", "run/20/default", "plain/20", "v1", "v1/state"]
)
def test_the_tokenizer_is_found_from_every_folder_of_a_checkpoint(
    release: Path, weights: str
) -> None:
    for checkpoint in ("2b-it", "run/20/default", "plain/20", "v1/state"):
        if checkpoint.startswith(weights.partition("/")[0]):
            (release / checkpoint).mkdir(parents=True)
            (release / checkpoint / "_METADATA").write_text("{}")
    assert source(release / weights).tokenizer == str(release)


def test_a_nearer_tokenizer_comes_first(release: Path) -> None:
    (release / "2b-it").mkdir()
    for name in ("_METADATA", "tokenizer.json"):
        (release / "2b-it" / name).write_text("{}")
    assert source(release / "2b-it").tokenizer == str(release / "2b-it")


def test_a_folder_that_is_no_checkpoint_takes_no_tokenizer_from_above(release: Path) -> None:
    (release / "elsewhere").mkdir()
    assert source(release / "elsewhere").tokenizer == str(release / "elsewhere")


def test_a_relative_address_leads_above_the_working_directory(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (release / "2b-it").mkdir()
    (release / "2b-it" / "_METADATA").write_text("{}")
    monkeypatch.chdir(release / "2b-it")
    assert source(".").tokenizer == str(release)


def test_the_folder_of_a_release_is_a_model_and_its_tokenizer(release: Path) -> None:
    shutil.copytree(OFFICIAL, release / "2b-it")
    assert open_checkpoint(source(release)).note == "took 2b-it"


def test_of_two_checkpoints_in_a_release_one_must_be_named(release: Path) -> None:
    for name in ("2b", "2b-it"):
        shutil.copytree(OFFICIAL, release / name)
    with pytest.raises(WeightsError, match=r"several checkpoints: 2b, 2b-it; give the folder of"):
        open_checkpoint(source(release))
