"""jax looks for no TPU where there is none: libtpu, once started, writes to stderr."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import orbax.checkpoint as ocp
import pytest

from rgpipeline.model.config import GRIFFIN_CYCLE, GriffinConfig
from rgpipeline.model.platforms import skip_absent_tpu
from tests.model.official import random_official_params

GENERATOR = "from rgpipeline import Generator; Generator.load('demo', slots=1)"
ORBAX = (
    "from rgpipeline.model.weights.checkpoint import open_checkpoint; "
    "from tests.sources import source; open_checkpoint(source({!r}))"
)
UNTOLD = {"model_type": "recurrent_gemma", "attention_window_size": 8, "logits_soft_cap": 5.0}

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None or any(Path("/dev").glob("accel[0-9]*")),
    reason="libtpu on a machine without a TPU",
)


def stderr_of(program: str) -> str:
    """What a process writes to stderr when libtpu says everything that it does."""
    loud = {"TPU_STDERR_LOG_LEVEL": "0", "TPU_MIN_LOG_LEVEL": "0"}
    kept = {name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"}
    done = subprocess.run(
        [sys.executable, "-c", program], env={**kept, **loud}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@needs_libtpu
def test_a_generator_starts_no_libtpu() -> None:
    assert stderr_of(GENERATOR) == ""


@needs_libtpu
def test_reading_an_orbax_folder_starts_no_libtpu(tmp_path: Path) -> None:
    config = GriffinConfig(67, 24, 20, 2, 16, GRIFFIN_CYCLE, window=8, logits_soft_cap=5.0)
    folder = tmp_path / "w"
    ocp.PyTreeCheckpointer().save(folder, {"params": random_official_params(config, 0)})
    (folder / "config.json").write_text(json.dumps(UNTOLD))
    assert stderr_of(ORBAX.format(str(folder))) == ""


@pytest.mark.parametrize("device", ["accel0", "vfio/0", "nvidia0", "nvidiactl", "kfd"])
def test_where_an_accelerator_may_be_jax_chooses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    (tmp_path / device).parent.mkdir(exist_ok=True)
    (tmp_path / device).touch()
    assert chosen(tmp_path, monkeypatch) == []


def test_a_machine_without_accelerators_gets_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vfio").mkdir()
    (tmp_path / "vfio" / "vfio").touch()  # there without a TPU too
    assert chosen(tmp_path, monkeypatch) == [("jax_platforms", "cpu")]


def chosen(devices: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    updates: list[tuple[str, str]] = []
    monkeypatch.setattr(jax.config, "update", lambda *update: updates.append(update))
    monkeypatch.setattr(type(jax.config), "jax_platforms", None)
    skip_absent_tpu(devices)
    return updates
