"""Hugging Face folders: however split and typed, the same model; what is wrong is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from rgpipeline.errors import WeightsError
from rgpipeline.model.config import GRIFFIN_CYCLE, GriffinConfig
from rgpipeline.model.param_tree import flatten
from rgpipeline.model.params import param_shapes
from rgpipeline.model.weights.checkpoint import open_checkpoint, read_config
from rgpipeline.model.weights.loading import load
from tests.model import hf_folder
from tests.sources import source

CONFIG = GriffinConfig(67, 24, 20, 2, 24, GRIFFIN_CYCLE, window=8, eos_ids=(1, 5))
EMBEDDING = "model.embed_tokens.weight"
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

Tensors = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    """Values that bfloat16 holds exactly."""
    drawn = hf_folder.random_tensors(CONFIG, 0, BFLOAT16)
    return {name: tensor.astype(np.float32) for name, tensor in drawn.items()}


@pytest.fixture
def folder(tmp_path: Path, tensors: Tensors) -> Path:
    return hf_folder.write(tmp_path / "weights", CONFIG, tensors)


@pytest.fixture
def fault(tmp_path: Path, tensors: Tensors) -> Callable[..., str]:
    """The message for a folder with some tensors changed, added or (None) left out."""

    def told(changes: dict[str, np.ndarray | None] | None = None, **config: Any) -> str:
        held = {k: v for k, v in {**tensors, **(changes or {})}.items() if v is not None}
        folder = hf_folder.write(tmp_path / "faulty", CONFIG, held)
        fields = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**fields, **config}))
        return fault_of(folder)

    return told


def fault_of(url: str | Path) -> str:
    with pytest.raises(WeightsError) as caught:
        load(source(url))
    return str(caught.value)


def configured(folder: Path, **fields: Any) -> None:
    """Changes the folder's config.json; None takes a key out."""
    path = folder / "config.json"
    held = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({key: value for key, value in held.items() if value is not None}))


def assert_same(found: Any, expected: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, BFLOAT16, np.float64], ids=str)
@pytest.mark.parametrize("shards", [1, 5])
def test_any_splitting_and_dtype_is_the_same_model(
    tmp_path: Path, folder: Path, tensors: Tensors, shards: int, dtype: Any
) -> None:
    stored = {name: tensor.astype(dtype) for name, tensor in tensors.items()}
    other = hf_folder.write(tmp_path / "other", CONFIG, stored, shards)
    config, params, _ = load(source(other, "float32"))
    assert config == CONFIG
    assert_same(params, load(source(folder, "float32"))[1])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_parameters_have_the_models_shapes_and_dtypes(folder: Path, dtype: Any) -> None:
    _, params, settled = load(source(folder, dtype))
    assert settled == jnp.dtype(dtype)
    found = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), params)
    assert found == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), param_shapes(CONFIG, dtype))


def test_on_a_cpu_auto_is_float32(tmp_path: Path, tensors: Tensors) -> None:
    stored = {name: tensor.astype(BFLOAT16) for name, tensor in tensors.items()}
    _, _, settled = load(source(hf_folder.write(tmp_path / "w", CONFIG, stored)))
    assert settled == np.float32


@pytest.mark.parametrize(
    ("kernels", "rest", "settled"),
    [
        (BFLOAT16, np.float32, BFLOAT16),
        (np.float16, np.float16, BFLOAT16),
        (np.float32, np.float32, np.float32),
        (np.float64, np.float64, np.float32),
    ],
)
def test_elsewhere_auto_is_what_most_of_the_checkpoint_is(
    tmp_path: Path,
    tensors: Tensors,
    monkeypatch: pytest.MonkeyPatch,
    kernels: Any,
    rest: Any,
    settled: Any,
) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    stored = {k: v.astype(kernels if v.ndim > 1 else rest) for k, v in tensors.items()}
    assert load(source(hf_folder.write(tmp_path / "w", CONFIG, stored)))[2] == settled


def test_each_parameter_is_placed_once_the_largest_first(folder: Path) -> None:
    placed: list[tuple[tuple[str, ...], int]] = []

    def place(path: tuple[str, ...], value: np.ndarray) -> jax.Array:
        placed.append((path, value.size))
        return jnp.asarray(value)

    _, params, _ = load(source(folder, "float32"), device_put=place)
    assert {path for path, _ in placed} == set(flatten(params))
    sizes = [size for _, size in placed]
    assert sizes == sorted(sizes, reverse=True)


def test_a_stored_copy_of_the_tied_head_is_left_out(
    tmp_path: Path, folder: Path, tensors: Tensors
) -> None:
    more = {**tensors, "lm_head.weight": tensors[EMBEDDING]}
    other = hf_folder.write(tmp_path / "other", CONFIG, more)
    assert_same(load(source(other))[1], load(source(folder))[1])


def test_files_that_the_index_does_not_name_are_left_out(tmp_path: Path, tensors: Tensors) -> None:
    folder = hf_folder.write(tmp_path / "w", CONFIG, tensors, shards=2)
    (folder / "consolidated.safetensors").write_bytes(b"something else")
    load(source(folder))


def test_a_single_file_is_taken_before_a_stale_index(tmp_path: Path, tensors: Tensors) -> None:
    stale = {name: tensor * 2 for name, tensor in tensors.items()}
    folder = hf_folder.write(tmp_path / "w", CONFIG, stale, shards=2)
    hf_folder.write(folder, CONFIG, tensors)
    assert_same(load(source(folder))[1]["embedder"]["embedding"], tensors[EMBEDDING])
    note = open_checkpoint(source(folder)).note
    assert note.startswith("took model.safetensors, not model-00001-of-00002.safetensors")


def test_a_file_that_nobody_names_is_left_beside_a_single_one(folder: Path) -> None:
    (folder / "consolidated.safetensors").write_bytes(b"something else")
    note = open_checkpoint(source(folder)).note
    assert note == "took model.safetensors, not consolidated.safetensors"


def test_the_file_that_the_config_names_is_taken(
    tmp_path: Path, folder: Path, tensors: Tensors
) -> None:
    other = hf_folder.write(
        tmp_path / "other", CONFIG, {name: tensor * 2 for name, tensor in tensors.items()}
    )
    shutil.copy(other / "model.safetensors", folder / "second.safetensors")
    configured(folder, transformers_weights="second.safetensors")
    assert_same(load(source(folder))[1]["embedder"]["embedding"], tensors[EMBEDDING] * 2)


def test_of_a_folder_with_nothing_to_choose_nothing_is_noted(folder: Path) -> None:
    assert open_checkpoint(source(folder)).note == ""


def test_missing_misshapen_and_unexpected_tensors_are_named_together(
    fault: Callable[..., str],
) -> None:
    told = fault(
        {
            "model.final_norm.weight": None,
            EMBEDDING: np.zeros((68, 24), np.float32),
            "model.layers.3.extra.weight": np.zeros((2, 3), np.float32),
        }
    )
    assert "missing tensor model.final_norm.weight, shape [24]" in told
    assert f"{EMBEDDING} in model.safetensors: expected shape [67, 24], found [68, 24]" in told
    assert (
        "unexpected tensor model.layers.3.extra.weight in model.safetensors, shape [2, 3]" in told
    )


def test_a_wholly_different_size_does_not_fill_the_screen(fault: Callable[..., str]) -> None:
    told = fault(num_hidden_layers=30)
    assert len(told.splitlines()) < 50
    assert "more" in told.splitlines()[-1]


def test_another_model_is_refused_by_name(fault: Callable[..., str]) -> None:
    assert "model_type 'llama' is not a Griffin model" in fault(model_type="llama")


def test_integers_are_no_weights(fault: Callable[..., str]) -> None:
    told = fault({EMBEDDING: np.zeros((67, 24), np.int8)})
    assert (
        f"model.safetensors: tensor {EMBEDDING} has dtype I8; supported: F32, F16, BF16, F64"
        in told
    )


def test_weights_that_a_tool_has_quantized_are_refused_with_its_name(
    fault: Callable[..., str],
) -> None:
    name = "model.layers.0.mlp_block.up_proj.weight"
    four_bits = {name: np.zeros((240, 1), np.uint8), f"{name}.absmax": np.zeros(8, np.float32)}
    told = fault(four_bits)
    assert f"tensor {name} has dtype U8: the weights are quantized by bitsandbytes" in told
    assert "model.dequantize()" in told


def test_a_quantization_in_the_config_is_refused_by_name(fault: Callable[..., str]) -> None:
    told = fault(quantization_config={"quant_method": "fp8"})
    assert "config.json: quantization_config: the weights are quantized by fp8" in told


def test_an_fp8_tensor_is_refused(folder: Path) -> None:
    header = {EMBEDDING: {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}
    raw = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw + b"0")
    assert "has dtype F8_E4M3: the weights are quantized by an fp8 tool" in fault_of(folder)


@pytest.mark.parametrize(
    ("prefix", "advice"),
    [
        ("_orig_mod.", "save model._orig_mod"),
        ("base_model.model.", "merge_and_unload()"),
        ("module.", "save model.module"),
        ("griffin.", "there are 57: griffin.model.embed_tokens.weight"),
    ],
)
def test_names_under_another_prefix_are_shown(
    tmp_path: Path, tensors: Tensors, prefix: str, advice: str
) -> None:
    renamed = {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
    told = fault_of(hf_folder.write(tmp_path / "w", CONFIG, renamed))
    assert f"{prefix}model.embed_tokens.weight" in told
    assert advice in told
    assert len(told.splitlines()) <= 5


@pytest.mark.parametrize(
    ("name", "beside", "says"),
    [
        ("adapter_config.json", True, "lies beside the model"),
        ("adapter_model.safetensors", True, "lies beside the model"),
        ("adapter_config.json", False, "names no base; give its folder as model.base"),
        ("adapter_model.safetensors", False, "without its adapter_config.json"),
    ],
)
def test_an_adapter_that_nobody_named_is_refused_beside_a_model_and_alone(
    folder: Path, name: str, beside: bool, says: str
) -> None:
    (folder / name).write_text("{}")
    if not beside:
        for other in ("config.json", "model.safetensors"):
            (folder / other).unlink()
    assert says in fault_of(folder)


def cached(folder: Path, into: Path) -> Path:
    """The folder as the Hub's cache keeps it: links to blobs."""
    snapshot = into / "models--google--recurrentgemma-2b" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    blobs = snapshot.parents[1] / "blobs"
    shutil.copytree(folder, blobs)
    (snapshot.parents[1] / "refs").mkdir()
    for blob in blobs.iterdir():
        (snapshot / blob.name).symlink_to(blob)
    return snapshot


def test_the_hubs_cache_names_its_snapshots(tmp_path: Path, folder: Path) -> None:
    snapshot = cached(folder, tmp_path / "hub")
    model = snapshot.parents[1]
    told = fault_of(model.parent)
    assert f"give hf://google/recurrentgemma-2b, or {snapshot}" in told
    load(source(snapshot))


def test_a_folder_of_folders_names_those_with_a_model(tmp_path: Path, folder: Path) -> None:
    shutil.copytree(folder, tmp_path / "run" / "checkpoint-500")
    assert f"Do you mean {tmp_path}/run/checkpoint-500?" in fault_of(tmp_path / "run")


def test_absent_key_value_heads_are_as_many_as_the_tensors_show(folder: Path) -> None:
    configured(folder, num_key_value_heads=None)
    config, _, _ = load(source(folder))
    assert (config.heads, config.kv_heads) == (2, 1)
    assert read_config(source(folder)) == config


@pytest.mark.parametrize("weights", [True, False])
def test_absent_key_value_heads_are_all_heads_unless_tensors_show_one(
    tmp_path: Path, tensors: Tensors, weights: bool
) -> None:
    names = [f"model.layers.2.temporal_block.{kind}_proj.weight" for kind in "kv"]
    both = {name: np.zeros((24, 24), np.float32) for name in names}
    folder = hf_folder.write(tmp_path / "w", CONFIG, {**tensors, **both})
    configured(folder, num_key_value_heads=None)
    if not weights:
        (folder / "model.safetensors").unlink()
    assert read_config(source(folder)).kv_heads == 2


def test_a_truncated_file_is_named_with_its_tensor(folder: Path) -> None:
    file = folder / "model.safetensors"
    size = file.stat().st_size
    shutil.copy(file, folder / "whole")
    with file.open("r+b") as raw:
        raw.truncate(size - 4)
    told = fault_of(folder)
    assert "model.safetensors: truncated: tensor " in told
    assert f"ends at byte {size}, the file has {size - 4}" in told


@pytest.mark.parametrize("kept", [0, 5, 100])
def test_a_file_cut_within_its_header_is_named(folder: Path, kept: int) -> None:
    with (folder / "model.safetensors").open("r+b") as raw:
        raw.truncate(kept)
    assert "model.safetensors: " in fault_of(folder)


def test_what_is_no_safetensors_file_is_named(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\0" * 8 + b"nothing" * 10)
    assert "model.safetensors: not a safetensors file" in fault_of(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_git_lfs_pointer_is_known_for_what_it_is(folder: Path, name: str) -> None:
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert f"{name}: a Git LFS pointer, not the file" in fault_of(folder)


def test_missing_shards_are_named_together(tmp_path: Path, tensors: Tensors) -> None:
    folder = hf_folder.write(tmp_path / "w", CONFIG, tensors, shards=3)
    gone = [f"model-0000{shard}-of-00003.safetensors" for shard in (1, 3)]
    for name in gone:
        (folder / name).unlink()
    assert f"files that are not there: {', '.join(gone)}" in fault_of(folder)


def test_every_faulty_shard_is_told_at_once(tmp_path: Path, tensors: Tensors) -> None:
    folder = hf_folder.write(tmp_path / "w", CONFIG, tensors, shards=3)
    for shard in (1, 3):
        (folder / f"model-0000{shard}-of-00003.safetensors").write_bytes(b"cut")
    told = fault_of(folder)
    assert "model-00001-of-00003" in told
    assert "model-00003-of-00003" in told


def test_a_tensor_in_two_shards_is_named(tmp_path: Path, tensors: Tensors) -> None:
    folder = hf_folder.write(tmp_path / "w", CONFIG, tensors, shards=2)
    shutil.copy(
        folder / "model-00001-of-00002.safetensors", folder / "model-00002-of-00002.safetensors"
    )
    assert "is also in model-00001-of-00002.safetensors" in fault_of(folder)


def test_pickled_weights_are_not_read(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "safe_serialization=True" in fault_of(folder)


def test_a_folder_that_is_neither_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    told = fault_of(tmp_path)
    assert "neither a Hugging Face folder (no config.json) nor an official" in told
    assert "it holds notes.txt" in told


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert fault_of(tmp_path / "gone").startswith(f"{tmp_path}/gone: no such folder; name one")


def test_a_file_in_place_of_a_folder(folder: Path) -> None:
    assert "is a file; give the folder" in fault_of(folder / "model.safetensors")


def test_a_protocol_that_nobody_knows() -> None:
    assert fault_of("s5://bucket/weights").startswith("s5://bucket/weights: s5:// cannot be opened")
