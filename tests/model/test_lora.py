"""LoRA adapters: the model is the one that PEFT's merge makes (tests/golden/peft)."""

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rgpipeline.engine.factory import open_engine
from rgpipeline.generator import Generator
from rgpipeline.model import quantize
from rgpipeline.model.config import GriffinConfig
from rgpipeline.model.param_tree import Params, flatten
from rgpipeline.model.weights import merged_reader
from rgpipeline.model.weights.adapter_config import LoraConfig
from rgpipeline.model.weights.checkpoint import open_checkpoint, read_config
from rgpipeline.model.weights.loading import load
from rgpipeline.spec import EngineSpec
from tests.model.golden import FOLDER
from tests.model.running import Runner
from tests.sources import source

PEFT = FOLDER / "peft"
BASE = str(PEFT / "base")
CASES = sorted(path.parent.name for path in PEFT.glob("*/adapter_config.json"))
TOLERANCE = 2e-4


@cache
def merged(case: str) -> tuple[GriffinConfig, Params]:
    config, params, _ = load(source(BASE, "float32", adapter=str(PEFT / case)))
    return config, params


def logprobs(config: GriffinConfig, params: Params, tokens: list[int]) -> np.ndarray:
    """Of each token given those before it, but the first."""
    (logits,), _ = Runner(config, params).in_chunks([np.array(tokens)], 32)
    whole = logits - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True))
    whole -= logits.max(-1, keepdims=True)
    return np.take_along_axis(whole[:-1], np.array(tokens)[1:, None], -1)[:, 0]


def expected(case: str) -> dict[str, Any]:
    return dict(json.loads((PEFT / case / "expected.json").read_text()))


def equal(one: Params, other: Params) -> bool:
    ours, theirs = flatten(one), flatten(other)
    assert ours.keys() == theirs.keys()
    return all(np.array_equal(np.asarray(ours[k]), np.asarray(theirs[k])) for k in ours)


def test_there_are_cases_of_every_kind() -> None:
    assert {"plain", "rslora", "dora", "saved", "embed_dora", "tokens"} < set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_log_probabilities_are_those_of_the_model_that_peft_merged(case: str) -> None:
    says, (config, params) = expected(case), merged(case)
    found = logprobs(config, params, says["tokens"])
    assert np.abs(found - says["logprobs"]).max() < TOLERANCE
    assert config.tied is says["tied"]
    assert read_config(source(BASE, adapter=str(PEFT / case))) == config


@pytest.mark.parametrize("case", CASES)
def test_rows_are_merged_a_few_at_a_time_with_the_same_result(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merged_reader, "_VALUES", 100)  # six rows of the embedding
    _, params, _ = load(source(BASE, "float32", adapter=str(PEFT / case)))
    ours, theirs = flatten(params), flatten(merged(case)[1])
    assert max(np.abs(np.asarray(ours[k] - theirs[k])).max() for k in ours) < 1e-6


@pytest.mark.parametrize("case", ["rslora", "dora", "embed", "lora_bias", "save_embed"])
def test_the_merged_weights_are_cast_or_quantized_not_the_base(case: str) -> None:
    exact = flatten(merged(case)[1])
    _, cast, dtype = load(source(BASE, "bfloat16", adapter=str(PEFT / case)))
    assert dtype == ml_dtypes.bfloat16
    for path, value in flatten(cast).items():
        assert np.array_equal(np.asarray(value), np.asarray(exact[path]).astype(value.dtype))
    _, numbers, _ = load(source(BASE, "float32", adapter=str(PEFT / case), quantize="int8"))
    held = flatten(numbers)
    for path in filter(quantize.is_quantized, exact):
        whole, scales = quantize.quantized_weights(np.asarray(exact[path]))
        assert np.array_equal(np.asarray(held[path]), whole)
        assert np.array_equal(np.asarray(held[quantize.scale_path(path)]), scales)


def test_a_bfloat16_base_and_adapter_are_added_up_in_float32(tmp_path: Path) -> None:
    for name, file in (("base", "model"), ("plain", "adapter_model")):
        shutil.copytree(PEFT / name, tmp_path / name)
        path = tmp_path / name / f"{file}.safetensors"
        save_file({k: v.astype(ml_dtypes.bfloat16) for k, v in load_file(path).items()}, path)
    _, params, _ = load(source(tmp_path / "base", "bfloat16", adapter=str(tmp_path / "plain")))
    base = load_file(tmp_path / "base" / "model.safetensors")
    adapter = load_file(tmp_path / "plain" / "adapter_model.safetensors")
    name = "model.layers.1.mlp_block.down_proj"
    a, b = (
        adapter[f"base_model.model.{name}.lora_{one}.weight"].astype(np.float32) for one in "AB"
    )
    whole = base[f"{name}.weight"].astype(np.float32) + 2 * (b @ a)  # alpha 8, rank 4
    found = np.asarray(params["blocks_1"]["mlp"]["down"]["kernel"]).astype(np.float32)
    assert np.array_equal(found, whole.astype(ml_dtypes.bfloat16).astype(np.float32))


def test_the_adapters_folder_alone_is_a_model(tmp_path: Path) -> None:
    whole = merged("plain")[1]
    _, params, _ = load(source(PEFT / "plain", "float32", base=BASE))
    assert equal(params, whole)
    folder = Path(shutil.copytree(PEFT / "plain", tmp_path / "adapter"))
    fields = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(
        json.dumps(fields | {"base_model_name_or_path": BASE})
    )
    assert equal(load(source(folder, "float32"))[1], whole)


def test_a_model_saved_without_its_head_takes_the_adapter(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(BASE, tmp_path / "base"))
    tensors = load_file(folder / "model.safetensors")
    bare = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    save_file(bare, folder / "model.safetensors")
    for case in ("dora", "save_embed"):
        _, params, _ = load(source(folder, "float32", adapter=str(PEFT / case)))
        assert equal(params, merged(case)[1])


def test_an_adapter_that_lies_beside_its_base_is_merged_when_it_is_named(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(BASE, tmp_path / "both"))
    shutil.copytree(PEFT / "plain", folder, dirs_exist_ok=True)
    assert equal(load(source(folder, "float32", adapter=str(folder)))[1], merged("plain")[1])


def test_a_head_of_its_own_does_not_follow_the_embedding(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(BASE, tmp_path / "base"))
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] * 2
    save_file(tensors, folder / "model.safetensors")
    fields = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(fields | {"tie_word_embeddings": False}))
    _, params, _ = load(source(folder, "float32", adapter=str(PEFT / "embed")))
    assert np.array_equal(np.asarray(params["lm_head"]["kernel"]), tensors["lm_head.weight"])
    embedding = np.asarray(params["embedder"]["embedding"])
    assert np.array_equal(embedding, np.asarray(merged("embed")[1]["embedder"]["embedding"]))


def test_tensors_without_updates_are_views_of_the_file_still() -> None:
    reader = open_checkpoint(source(BASE, adapter=str(PEFT / "plain"))).reader
    assert isinstance(reader.read("model.embed_tokens.weight").base, np.memmap)


def test_engine_and_generator_take_it() -> None:
    says = expected("dora")
    with Generator.load(BASE, adapter=PEFT / "dora", dtype="float32", slots=1) as generator:
        (found,) = generator.score([says["tokens"]])
    assert np.abs(found - says["logprobs"]).max() < TOLERANCE
    with Generator.load(PEFT / "dora", base=BASE, dtype="float32", slots=1) as generator:
        assert np.array_equal(generator.score([says["tokens"]])[0], found)
    model = source(BASE, "float32", adapter=str(PEFT / "save_head"))
    assert not open_engine(model, EngineSpec(slots=1)).loop._engine.config.tied


@pytest.mark.parametrize(
    ("module", "rank", "scale"),
    [
        ("model.layers.0.mlp_block.up_proj", 4, 2.0),  # the default
        ("model.layers.0.mlp_block.down_proj", 2, 4.0),  # the last part of the name
        ("model.layers.11.mlp_block.down_proj", 2, 1.5),  # a regular expression, after it
        ("model.layers.1.temporal_block.q_proj", 16, 0.5),  # anchored
        ("x.model.layers.1.temporal_block.q_proj", 4, 2.0),
    ],
)
def test_patterns_match_whole_ends_of_names_the_first_first(
    module: str, rank: int, scale: float
) -> None:
    config = LoraConfig(
        peft_type="LORA",
        r=4,
        rank_pattern={"proj": 99, "down_proj": 2, r"^model.layers.1.temporal_block.q_proj": 16},
        alpha_pattern={r"layers\.1\d\..*": 3, "down_proj": 8},
    )
    assert (config.rank(module), config.scale(module)) == (rank, scale)
