"""Adapters that can't be merged are refused by the names of their files, keys and tensors."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rgpipeline.errors import WeightsError
from rgpipeline.model.weights.checkpoint import open_checkpoint
from tests.model.golden import FOLDER
from tests.sources import source

PEFT = FOLDER / "peft"
BASE = str(PEFT / "base")
A = "base_model.model.model.layers.2.temporal_block.q_proj.lora_A.weight"
B = A.replace("lora_A", "lora_B")
MAGNITUDE = A.replace("lora_A.weight", "lora_magnitude_vector")
CONV = "base_model.model.model.layers.0.temporal_block.conv_1d"

Tensors = dict[str, np.ndarray]
Change = Callable[[Tensors], object]


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PEFT / "plain", tmp_path / "adapter"))


def fault_of(adapter: Path, weights: str = BASE, **model: Any) -> str:
    with pytest.raises(WeightsError) as raised:
        open_checkpoint(source(weights, adapter=str(adapter), **model))
    return str(raised.value)


def set_fields(adapter: Path, **fields: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"peft_type": "LOHA"}, "peft_type 'LOHA': only LORA adapters are merged"),
        ({"peft_type": None}, "peft_type None"),
        ({"r": 0}, "r must be a positive whole number, not 0"),
        ({"lora_alpha": "8"}, "lora_alpha must be a number, not '8'"),
        ({"rank_pattern": {"q_proj": -1}}, "rank_pattern must be positive whole numbers by module"),
        ({"alpha_pattern": {"[": 2}}, "'[' is no regular expression"),
        ({"use_dora": 2}, "use_dora must be true or false, not 2"),
        ({"use_qalora": True}, "use_qalora: such an adapter can't be merged"),
        ({"use_something_new": True}, "use_something_new: such an adapter"),
        ({"layer_replication": [[0, 2]]}, "layer_replication: such an adapter"),
        ({"target_parameters": ["a"], "kasa_config": {"x": 1}}, "target_parameters: such"),
        ({"init_lora_weights": "pissa_niter_4"}, "path_initial_model_for_weight_conversion"),
    ],
)
def test_the_configuration(adapter: Path, fields: dict[str, Any], says: str) -> None:
    set_fields(adapter, **fields)
    told = fault_of(adapter)
    assert says in told
    assert "adapter_config.json" in told


@pytest.mark.parametrize(
    ("change", "fields", "says"),
    [
        (lambda t: t.update({A: zeros(4, 17)}), {}, f"tensor {A}: expected shape [4, 16], found"),
        (lambda t: None, {"r": 8}, "expected shape [8, 16], found [4, 16]"),
        (lambda t: t.update({B: zeros(17, 4)}), {}, f"{B}: expected shape [16, 4], found [17, 4]"),
        (lambda t: t.pop(B), {}, f"tensor {A}: lora_B.weight of model.layers.2"),
        (lambda t: t.pop(A), {}, f"tensor {B}: lora_A.weight of model.layers.2"),
        (lambda t: None, {"use_dora": True}, "lora_magnitude_vector of model.layers.0"),
        (lambda t: t.update({MAGNITUDE: zeros(16)}), {}, f"tensor {MAGNITUDE}: use_dora is false"),
        (
            lambda t: t.update({A.replace("layers.2", "layers.9"): zeros(4, 16)}),
            {},
            "layers.9.temporal_block.q_proj.lora_A.weight: the base has no model.layers.9",
        ),
        (lambda t: t.update({"vision.lora_A.weight": zeros(4, 4)}), {}, "unknown tensor vision."),
        (
            lambda t: t.update({B.replace("weight", "bias"): zeros(16)}),
            {},
            "q_proj.lora_B.bias: the base has no model.layers.2.temporal_block.q_proj.bias",
        ),
        (
            lambda t: t.update({"base_model.model.model.final_norm.weight": zeros(9)}),
            {},
            "tensor base_model.model.model.final_norm.weight: expected shape [16], found [9]",
        ),
        (
            lambda t: t.update({"base_model.model.lm_head.weight": zeros(41, 16)}),
            {},
            "tensor base_model.model.lm_head.weight: expected shape [40, 16], found [41, 16]",
        ),
        (
            lambda t: t.update({f"{CONV}.lora_A.weight": zeros(16, 1, 4)}),
            {},
            "conv_1d.weight is no matrix, and not even PEFT merges it",
        ),
        (lambda t: t.clear(), {}, "it has no tensors"),
    ],
)
def test_tensors_that_do_not_fit(
    adapter: Path, change: Change, fields: dict[str, Any], says: str
) -> None:
    set_fields(adapter, **fields)
    tensors = load_file(adapter / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, adapter / "adapter_model.safetensors")
    told = fault_of(adapter)
    assert says in told
    assert f"{adapter}/adapter_model.safetensors" in told


def test_tokens_beyond_the_vocabulary(tmp_path: Path) -> None:
    adapter = Path(shutil.copytree(PEFT / "tokens", tmp_path / "adapter"))
    set_fields(adapter, trainable_token_indices=[3, 7, 40])
    assert "model.embed_tokens.weight has no row 40, only 40" in fault_of(adapter)


def test_an_adapter_of_another_model_is_told_in_a_few_lines(adapter: Path) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    wider = {name: np.tile(tensor, (2, 2)) for name, tensor in tensors.items()}
    save_file(wider, adapter / "adapter_model.safetensors")
    assert "expected shape" in (told := fault_of(adapter))
    assert len(told.splitlines()) <= 42


def test_files_that_are_not_there(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    assert "adapter_model.bin is PyTorch's pickle" in fault_of(adapter)
    (adapter / "adapter_model.bin").unlink()
    assert fault_of(adapter).endswith("no adapter_model.safetensors")
    (adapter / "adapter_config.json").unlink()
    assert "it has no adapter_config.json" in fault_of(adapter)
    assert "no such folder" in fault_of(adapter / "elsewhere")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (None, "names no base; give its folder as model.base"),
        ("hf5", "its base 'hf5' is neither a folder here nor a name of the Hub"),
        ("/gone/base", "its base '/gone/base' is neither"),
    ],
)
def test_a_base_that_is_not_found(adapter: Path, name: str | None, says: str) -> None:
    set_fields(adapter, base_model_name_or_path=name)
    with pytest.raises(WeightsError, match="adapter_config") as raised:
        open_checkpoint(source(adapter))
    assert says in str(raised.value)
    assert open_checkpoint(source(adapter, base=BASE)).config.vocab_size == 40


def test_folders_that_contradict_each_other(adapter: Path) -> None:
    assert "beside model.adapter, the weights are the base" in fault_of(adapter, base=BASE)
    assert "an adapter itself" in fault_of(adapter, str(adapter))
    with pytest.raises(WeightsError, match=r"model\.base .* is for an adapter"):
        open_checkpoint(source(BASE, base=BASE))
