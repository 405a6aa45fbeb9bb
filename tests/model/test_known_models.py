"""The released sizes, by shape evaluation; the official library's presets are the oracle."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recurrentgemma import common
from recurrentgemma.jax import griffin as official_griffin

from rgpipeline.model.config import GriffinConfig, known_config
from rgpipeline.model.griffin_state import init_state
from rgpipeline.model.layers.griffin import Griffin
from rgpipeline.model.param_tree import flatten
from rgpipeline.model.params import param_shapes
from rgpipeline.model.weights import hf_layout, official_layout
from rgpipeline.model.weights.hf_config import hf_fields
from rgpipeline.model.weights.loading import load
from tests.model.official import official_config
from tests.sources import source

PRESETS = {
    "recurrentgemma-2b": common.Preset.RECURRENT_GEMMA_2B_V1,
    "recurrentgemma-9b": common.Preset.RECURRENT_GEMMA_9B_V1,
    "griffin-7b": common.Preset.GRIFFIN_PAPER_7B,
    "hawk-7b": common.Preset.HAWK_PAPER_7B,
}
CYCLE = 3  # blocks: all that follow are like them
every_model = pytest.mark.parametrize("name", PRESETS)


def struct(shape: tuple[int, ...], dtype: Any = jnp.int32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def one_cycle(name: str) -> GriffinConfig:
    config = known_config(name)
    return replace(config, block_types=config.block_types[:CYCLE])


def official_shapes(config: GriffinConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor of the official library's model."""
    places = jnp.zeros((1, 1), jnp.int32)
    init = official_griffin.Griffin(official_config(config)).init
    params = jax.eval_shape(init, jax.random.key(0), places, places)["params"]
    return {"/".join(path): leaf.shape for path, leaf in flatten(params).items()}


@every_model
def test_the_built_in_configuration_is_the_official_preset(name: str) -> None:
    preset = common.GriffinConfig.from_preset(PRESETS[name])
    ours = official_config(known_config(name))._replace(scan_type=preset.scan_type)
    assert ours == preset


@pytest.mark.parametrize(
    "config",
    [known_config("recurrentgemma-2b"), *map(one_cycle, PRESETS)],
    ids=["all of 2b", *PRESETS],
)
def test_the_official_checkpoint_has_just_the_tensors_we_read(config: GriffinConfig) -> None:
    recipes = official_layout.recipes(config)
    assert dict(s for recipe in recipes for s in recipe.sources) == official_shapes(config)


@every_model
@pytest.mark.parametrize("layout", [hf_layout, official_layout])
def test_what_is_loaded_has_the_models_shapes(name: str, layout: Any) -> None:
    """Tensors of one byte a value, without memory of their own where they are not stacked."""
    config = one_cycle(name)
    wanted, byte, seen = flatten(param_shapes(config, "bfloat16")), np.zeros((), np.int8), set()
    for recipe in layout.recipes(config):
        parts = [np.broadcast_to(byte, shape) for _, shape in recipe.sources]
        key = (recipe.path[1:], *(part.shape for part in parts))
        if key not in seen:  # layers of a kind are alike
            seen.add(key)
            assert recipe.build(parts).shape == wanted[recipe.path].shape, recipe.path


@every_model
def test_prefill_and_decode_keep_the_states_shapes(name: str) -> None:
    config, rows, chunk = one_cycle(name), 3, 16
    model, params = Griffin(config, jnp.bfloat16), param_shapes(config, "bfloat16")
    state = jax.eval_shape(lambda: init_state(config, rows, jnp.bfloat16))

    def prefill(params: Any, tokens: Any, lengths: Any, state: Any) -> Any:
        return model.apply({"params": params}, tokens, lengths, state, method="prefill")

    def decode(params: Any, tokens: Any, active: Any, state: Any) -> Any:
        hidden, state = model.apply({"params": params}, tokens, active, state, method="decode")
        return model.apply({"params": params}, hidden, method="logits"), state

    tokens, lengths = struct((rows, chunk)), struct((rows,))
    hidden, after = jax.eval_shape(prefill, params, tokens, lengths, state)
    assert hidden.shape == (rows, chunk, config.width)
    logits, last = jax.eval_shape(decode, params, lengths, struct((rows,), jnp.bool_), after)
    assert (logits.shape, logits.dtype) == ((rows, config.vocab_size), jnp.float32)
    assert jax.tree.map(struct_of, (after, last)) == jax.tree.map(struct_of, (state, state))


def struct_of(leaf: Any) -> tuple[tuple[int, ...], Any]:
    return leaf.shape, leaf.dtype


def test_a_folder_of_the_released_2b_loads(tmp_path: Path) -> None:
    """Its 5.4 GB are a hole in a file; parameters are looked at and let go."""
    config = known_config("recurrentgemma-2b")
    sparse_folder(tmp_path, config)
    found = {}

    def place(path: tuple[str, ...], value: np.ndarray) -> jax.Array:
        found[path] = struct_of(value)
        return jnp.zeros(())

    assert load(source(tmp_path, "bfloat16"), device_put=place)[0] == config
    wanted = flatten(param_shapes(config, "bfloat16"))
    assert found == {path: struct_of(leaf) for path, leaf in wanted.items()}


def sparse_folder(folder: Path, config: Any) -> None:
    """A Hugging Face folder in bfloat16 that takes no room on the disk."""
    header, end = {}, 0
    for recipe in hf_layout.recipes(config):
        for name, shape in recipe.sources:
            start, end = end, end + 2 * int(np.prod(shape))
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    raw = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + end)
    (folder / "config.json").write_text(json.dumps(hf_fields(config)))
