"""Where a Hugging Face checkpoint keeps what; matrices are stored as [out in], as ours are."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jax.typing import DTypeLike
from safetensors.numpy import save_file

from rgpipeline.model.config import RECURRENT, GriffinConfig
from rgpipeline.model.layers.array_types import HostArray
from rgpipeline.model.params import Params, flatten
from rgpipeline.model.weights.recipes import (
    Recipe,
    reshaped,
    same,
    side_by_side,
    stacked,
    then,
    transposed,
)

BODY = "model."  # before the names of all tensors but the head's
EMBEDDING = "embed_tokens.weight"
HEAD = "lm_head.weight"

# Stored by some versions though nothing needs them: the tied head and RoPE's frequencies.
REDUNDANT_SUFFIXES = (HEAD, "rotary_emb.inv_freq")


def recipes(
    config: GriffinConfig, body: str = BODY, embedding: str = BODY + EMBEDDING
) -> Iterator[Recipe]:
    """One recipe for each parameter.

    Args:
        config: The model.
        body: What the names begin with; empty where the model was saved without its head.
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
    yield Recipe((*at, "gates", "kernel"), gate_kernels, side_by_side)
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
    key_value = ((f"{name}.k_proj.weight", (h, d)), (f"{name}.v_proj.weight", (h, d)))
    yield Recipe((*at, "key_value", "kernel"), key_value, stacked(0))
    yield Recipe((*at, "out", "kernel"), ((f"{name}.o_proj.weight", (d, d)),), same)
    yield Recipe((*at, "out", "bias"), ((f"{name}.o_proj.bias", (d,)),), same)


def save(folder: Path, config: GriffinConfig, params: Params, dtype: DTypeLike) -> None:
    """Writes `model.safetensors` in `dtype`, then `config.json`, into an existing folder."""
    leaves = flatten(params)
    tensors = {
        name: np.ascontiguousarray(array.astype(np.dtype(dtype)))
        for recipe in recipes(config)
        for name, array in _taken_apart(recipe, np.asarray(leaves[recipe.path]))
    }
    save_file(tensors, folder / "model.safetensors")
    fields = hf_fields(config) | {"torch_dtype": np.dtype(dtype).name}
    (folder / "config.json").write_text(json.dumps(fields, indent=1) + "\n")


def hf_fields(config: GriffinConfig) -> dict[str, Any]:
    """The `config.json` from which `hf_config.parse` makes this configuration."""
    return {
        "architectures": ["RecurrentGemmaForCausalLM"],
        "model_type": "recurrent_gemma",
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "intermediate_size": 2 * config.mlp_width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "num_key_value_heads": 1,
        "head_dim": config.head_dim,
        "lru_width": config.lru_width,
        "block_types": list(config.block_types),
        "attention_window_size": config.window,
        "conv1d_width": config.conv_width,
        "logits_soft_cap": config.logits_soft_cap,
        "embeddings_scale_by_sqrt_dim": config.scale_embeddings,
        "hidden_activation": "gelu_pytorch_tanh",
        "partial_rotary_factor": 0.5,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": config.tied,
        "bos_token_id": config.bos_id,
        "eos_token_id": list(config.eos_ids) if len(config.eos_ids) > 1 else config.eos_ids[0],
        "pad_token_id": config.pad_id,
    }


def _taken_apart(recipe: Recipe, value: HostArray) -> Iterator[tuple[str, HostArray]]:
    """The checkpoint's tensors that a parameter is made of."""
    sources, path = recipe.sources, recipe.path
    if path[-1] == "conv_kernel":
        value = value.T
    if path[-2:] == ("gates", "kernel"):
        value = np.stack(np.split(value, 2, axis=-1))
    parts = value if len(sources) > 1 else [value]
    for (name, shape), part in zip(sources, parts, strict=True):
        yield name, part.reshape(shape)
