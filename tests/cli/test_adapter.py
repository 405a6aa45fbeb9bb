"""A LoRA of the demo model, from the command line and as the weights of a job."""

import json
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest
from safetensors.numpy import save_file

from rgpipeline.addresses import DEMO_FOLDER
from rgpipeline.cli.app import call
from rgpipeline.model.weights.checkpoint import read_config
from tests.sources import source

PROMPT = "In the beginning"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """Of one projection; its base is named by a path."""
    config = read_config(source("demo"))
    rng, module = np.random.default_rng(0), "base_model.model.model.layers.0.mlp_block.down_proj"
    tensors = {
        f"{module}.lora_A.weight": rng.standard_normal((4, config.mlp_width), np.float32),
        f"{module}.lora_B.weight": rng.standard_normal((config.width, 4), np.float32),
    }
    folder = tmp_path / "adapter"
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    fields = {"peft_type": "LORA", "r": 4, "base_model_name_or_path": DEMO_FOLDER}
    (folder / "adapter_config.json").write_text(json.dumps(fields))
    return folder


def generated(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    greedy = ("--temperature", "0", "--max-tokens", "8")
    assert call(["generate", PROMPT, *greedy, *options]) == 0
    return capsys.readouterr().out.rstrip("\n")


def test_generate_and_a_job_merge_it(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = generated(capsys, "--model", "demo", "--adapter", str(adapter))
    assert text != generated(capsys, "--model", "demo")
    assert text == generated(capsys, "--model", str(adapter), "--base", "demo")
    (tmp_path / "in.jsonl").write_text(json.dumps({"prompt": PROMPT}) + "\n")
    job = {
        "model": {"weights": str(adapter), "dtype": "float32"},
        "input": {"path": str(tmp_path / "in.jsonl")},
        "output": {"path": str(tmp_path / "out")},
        "sampling": {"temperature": 0, "max_tokens": 8},
        "engine": {"slots": 1},
        "workers": {"count": 1},
    }
    (tmp_path / "job.yaml").write_text(json.dumps(job))
    assert call(["validate", str(tmp_path / "job.yaml")]) == 0
    assert call(["run", str(tmp_path / "job.yaml"), "--address", "local"]) == 0
    rows = ds.dataset(str(tmp_path / "out"), format="parquet").to_table().to_pylist()
    assert [row["completion"] for row in rows] == [text]


def test_what_it_does_not_fit_is_told_with_the_options_name(
    adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fault(*options: str) -> str:
        assert call(["generate", PROMPT, *options]) == 2
        return " ".join(capsys.readouterr().err.split())

    itself = fault("--model", str(adapter), "--adapter", str(adapter))
    assert "an adapter itself; beside --adapter, give its base's folder" in itself
    two = fault("--model", "demo", "--adapter", str(adapter), "--base", "demo")
    assert "--base demo: beside --adapter, the weights are the base; remove it" in two
    assert "--base demo: is for an adapter, and demo is none" in fault(
        "--model", "demo", "--base", "demo"
    )
