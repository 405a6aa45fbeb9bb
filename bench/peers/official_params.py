"""A Hugging Face folder's tensors with the official library's names and shapes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.typing import DTypeLike
from numpy.typing import NDArray
from safetensors.numpy import load_file

from rgpipeline.model.param_tree import Params, nest

Tensor = NDArray[Any]
_GATES = {"input_gate": "input_gate", "recurrent_gate": "a_gate"}


def official_params(model: Path, dtype: DTypeLike) -> Params:
    """The parameter tree that `recurrentgemma.jax.Griffin` takes, all of it in `dtype`.

    Raises:
        ValueError: a tensor's name is unknown.
    """
    flat: dict[tuple[str, ...], Any] = {}
    halves: dict[tuple[str, ...], Tensor] = {}
    for name, tensor in load_file(model / "model.safetensors").items():
        for path, value in _renamed(name, tensor):
            # The official library stacks the MLP's two branches in one tensor, the GeLU's first.
            if path[-1] in ("gate", "up"):
                halves[path] = value
            else:
                flat[path] = value
    for path, gate in halves.items():
        if path[-1] == "gate":
            flat[path[:-1]] = np.stack([gate, halves[(*path[:-1], "up")]])
    return nest({path: jax.device_put(value.astype(dtype)) for path, value in flat.items()})


def _renamed(name: str, tensor: Tensor) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    parts = name.removeprefix("model.").split(".")
    if parts[0] == "embed_tokens":
        yield ("embedder", "input_embedding"), tensor
    elif parts[0] == "final_norm":
        yield ("final_norm", "scale"), tensor
    elif parts[0] == "layers" and len(parts) > 3:
        block = f"blocks.{parts[1]}"
        if parts[2].endswith("_pre_norm"):
            yield (block, parts[2], "scale"), tensor
        elif parts[2] == "mlp_block":
            yield _mlp(block, parts[3], parts[4], tensor)
        else:
            yield _temporal(block, parts[3:], tensor)
    else:
        raise ValueError(f"unknown tensor {name}")


def _mlp(block: str, layer: str, kind: str, tensor: Tensor) -> tuple[tuple[str, ...], Tensor]:
    at = (block, "mlp_block")
    if layer == "down_proj":
        if kind == "bias":
            return (*at, "ffw_down", "bias"), tensor
        return (*at, "ffw_down", "kernel"), tensor.T
    half = layer.removesuffix("_proj")
    if kind == "bias":
        return (*at, "ffw_up", "b", half), tensor.reshape(1, 1, -1)
    return (*at, "ffw_up", "w", half), tensor.T


def _temporal(block: str, parts: list[str], tensor: Tensor) -> tuple[tuple[str, ...], Tensor]:
    layer, kind = parts[0], parts[-1]
    if layer.endswith("_proj"):
        name = {"q": "proj_q", "k": "proj_k", "v": "proj_v", "o": "proj_final"}[layer[0]]
        return _linear((block, "attention_block", name), kind, tensor)
    at = (block, "recurrent_block")
    if layer == "conv_1d":
        if kind == "bias":
            return (*at, "conv_1d", "b"), tensor
        return (*at, "conv_1d", "w"), tensor[:, 0, :].T
    if layer != "rg_lru":
        return _linear((*at, layer), kind, tensor)
    if kind == "recurrent_param":
        return (*at, "rg_lru", "a_param"), tensor
    gate, _, kind = kind.rpartition("_")
    return (*at, "rg_lru", _GATES[gate], kind[0]), tensor


def _linear(at: tuple[str, ...], kind: str, tensor: Tensor) -> tuple[tuple[str, ...], Tensor]:
    return ((*at, "bias"), tensor) if kind == "bias" else ((*at, "kernel"), tensor.T)
