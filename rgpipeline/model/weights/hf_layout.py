"""The Hugging Face layout: recipes from its tensors to parameters, and writing it.

Matrices are stored as [out in], as ours are.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike
from safetensors.numpy import save_file

from rgpipeline.model.config import RECURRENT, GriffinConfig
from rgpipeline.model.param_tree import HostArray, Params, flatten
from rgpipeline.model.weights.hf_config import hf_fields
from rgpipeline.model.weights.recipes import (
    Recipe,
    concatenated,
    reshaped,
    same,
    stacked,
    then,
    transposed,
)

BODY = "model."  # before the names of all tensors but the head's
EMBEDDING = "embed_tokens.weight"
HEAD = "lm_head.weight"

# Some versions store these although nothing needs them: the tied head and RoPE's frequencies.
REDUNDANT_SUFFIXES = (HEAD, "rotary_emb.inv_freq")


def recipes(
    config: GriffinConfig, body: str = BODY, embedding: str = BODY + EMBEDDING
) -> Iterator[Recipe]:
    """One recipe for each parameter.

    Args:
        config: The model.
        body: The prefix of the names; empty if the model was saved without its head.
        embedding: The tensor that holds the embedding.
    """
    table = (config.vocab_size, config.width)
    yield Recipe(("embedder", "embedding"), ((embedding, table),), same)
    if not config.tied:
        yield Recipe(("lm_head", "kernel"), ((HEAD, table),), same)
    norm = (f"{body}final_norm.weight", (config.width,))
    yield Recipe(("final_norm", "scale"), (norm,), same)
    for index, kind in enumerate(config.block_types):
        block, name = f"blocks_{index}", f"{body}layers.{index}"
        yield from _shared(config, block, name)
        temporal = _recurrent if kind == RECURRENT else _attention
        yield from temporal(config, block, f"{name}.temporal_block")


def _shared(config: GriffinConfig, block: str, name: str) -> Iterator[Recipe]:
    d, m = config.width, config.mlp_width
    for half in ("temporal", "channel"):
        scale = ((f"{name}.{half}_pre_norm.weight", (d,)),)
        yield Recipe((block, f"{half}_norm", "scale"), scale, same)
    gate, up, down = (f"{name}.mlp_block.{part}_proj" for part in ("gate", "up", "down"))
    kernels = ((f"{gate}.weight", (m, d)), (f"{up}.weight", (m, d)))
    yield Recipe((block, "mlp", "up", "kernel"), kernels, stacked(0))
    biases = ((f"{gate}.bias", (m,)), (f"{up}.bias", (m,)))
    yield Recipe((block, "mlp", "up", "bias"), biases, stacked(0))
    yield Recipe((block, "mlp", "down", "kernel"), ((f"{down}.weight", (d, m)),), same)
    yield Recipe((block, "mlp", "down", "bias"), ((f"{down}.bias", (d,)),), same)


def _recurrent(config: GriffinConfig, block: str, name: str) -> Iterator[Recipe]:
    d, e, n = config.width, config.lru_width, config.heads
    at = (block, "temporal")
    x, y = f"{name}.linear_x", f"{name}.linear_y"
    kernels = ((f"{x}.weight", (e, d)), (f"{y}.weight", (e, d)))
    yield Recipe((*at, "linear_xy", "kernel"), kernels, stacked(0))
    biases = ((f"{x}.bias", (e,)), (f"{y}.bias", (e,)))
    yield Recipe((*at, "linear_xy", "bias"), biases, stacked(0))
    taps = ((f"{name}.conv_1d.weight", (e, 1, config.conv_width)),)
    yield Recipe((*at, "conv_kernel"), taps, then(reshaped(e, config.conv_width), transposed))
    yield Recipe((*at, "conv_bias"), ((f"{name}.conv_1d.bias", (e,)),), same)
    gates = [f"{name}.rg_lru.{gate}_gate" for gate in ("input", "recurrent")]
    gate_kernels = tuple((f"{gate}_weight", (n, e // n, e // n)) for gate in gates)
    yield Recipe((*at, "gates", "kernel"), gate_kernels, concatenated)
    gate_biases = tuple((f"{gate}_bias", (n, e // n)) for gate in gates)
    yield Recipe((*at, "gates", "bias"), gate_biases, stacked(0))
    yield Recipe((*at, "a_param"), ((f"{name}.rg_lru.recurrent_param", (e,)),), same)
    out = f"{name}.linear_out"
    yield Recipe((*at, "linear_out", "kernel"), ((f"{out}.weight", (d, e)),), same)
    yield Recipe((*at, "linear_out", "bias"), ((f"{out}.bias", (d,)),), same)


def _attention(config: GriffinConfig, block: str, name: str) -> Iterator[Recipe]:
    d, n, h = config.width, config.heads, config.head_dim
    at = (block, "temporal")
    query = ((f"{name}.q_proj.weight", (d, d)),)
    yield Recipe((*at, "query", "kernel"), query, reshaped(n, h, d))
    keys = config.kv_heads * h
    key_value = ((f"{name}.k_proj.weight", (keys, d)), (f"{name}.v_proj.weight", (keys, d)))
    yield Recipe((*at, "key_value", "kernel"), key_value, stacked(0))
    yield Recipe((*at, "out", "kernel"), ((f"{name}.o_proj.weight", (d, d)),), same)
    yield Recipe((*at, "out", "bias"), ((f"{name}.o_proj.bias", (d,)),), same)


def save(folder: Path, config: GriffinConfig, params: Params, dtype: DTypeLike) -> None:
    """Writes `model.safetensors` in `dtype`, then `config.json`, into an existing folder."""
    leaves = flatten(params)
    tensors = {
        name: np.ascontiguousarray(array.astype(np.dtype(dtype)))
        for recipe in recipes(config)
        for name, array in split(recipe, np.asarray(leaves[recipe.path]))
    }
    save_file(tensors, folder / "model.safetensors")
    fields = hf_fields(config) | {"torch_dtype": np.dtype(dtype).name}
    (folder / "config.json").write_text(json.dumps(fields, indent=1) + "\n")


def split(recipe: Recipe, value: HostArray) -> Iterator[tuple[str, HostArray]]:
    """The checkpoint's tensors from which `recipe` makes `value`."""
    sources, path = recipe.sources, recipe.path
    if path[-1] == "conv_kernel":
        value = value.T
    if path[-2:] == ("gates", "kernel"):
        value = np.stack(np.split(value, 2, axis=-1))
    parts = value if len(sources) > 1 else [value]
    for (name, shape), part in zip(sources, parts, strict=True):
        yield name, part.reshape(shape)
