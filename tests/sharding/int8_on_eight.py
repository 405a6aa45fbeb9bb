"""Reads texts on one device, and divided in several ways among eight: with an int8 model, and with
one that has two heads of keys and values.

A process of its own, because a CPU is made eight devices before jax begins. Writes the file named
on the command line, `.npz`: by layout, the logits of every place, and the rings at the end.
"""

import sys
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import PartitionSpec

from rgpipeline.engine.programs.device_programs import PARAMS, STATE, Devices, by_slot
from rgpipeline.model.collectives import DATA, MODEL, Chips
from rgpipeline.model.config import ATTENTION, RECURRENT, GriffinConfig
from rgpipeline.model.griffin_state import GriffinState, init_state
from rgpipeline.model.layers import rings
from rgpipeline.model.layers.griffin import Griffin
from rgpipeline.model.param_tree import flatten, nest
from rgpipeline.model.params import random_params
from rgpipeline.model.quantize import is_quantized, quantized_weights, scale_path
from rgpipeline.model.sharding import mesh_of, shard_config

LAYOUTS = ((1, 1), (8, 1), (2, 4))  # data, model
SIZES = GriffinConfig(256, 128, 256, 8, 128, (RECURRENT, ATTENTION), window=16, tied=False)
TWO_HEADS = replace(SIZES, kv_heads=2)  # of keys and values
ROWS, CHUNK, CHUNKS, STEPS = 16, 16, 2, 8  # rings come round in the second chunk
TEXTS = np.random.default_rng(0).integers(3, 256, (ROWS, CHUNK * CHUNKS + STEPS), np.int32)


def read(
    model: Griffin, params: Any, tokens: Array, state: GriffinState
) -> tuple[Array, GriffinState]:
    """Logits [b t v] of whole texts, in chunks first and then one token at a time."""
    apply = partial(model.apply, {"params": params})
    rows = tokens.shape[0]

    def chunk(state: GriffinState, tokens: Array) -> tuple[GriffinState, Array]:
        hidden, state = apply(tokens, jnp.full(rows, CHUNK), state, method="prefill")
        return state, hidden.swapaxes(0, 1)

    def step(state: GriffinState, token: Array) -> tuple[GriffinState, Array]:
        hidden, state = apply(token, token >= 0, state, method="decode")
        return state, hidden

    prompts, rest = jnp.split(tokens, [CHUNK * CHUNKS], axis=1)
    state, in_chunks = lax.scan(chunk, state, prompts.reshape(rows, CHUNKS, CHUNK).swapaxes(0, 1))
    state, stepped = lax.scan(step, state, rest.T)
    hidden = jnp.concatenate([*in_chunks, stepped]).swapaxes(0, 1)
    return apply(hidden, method="logits"), state


def in_int8(params: Any) -> Any:
    held = {}
    for path, value in flatten(params).items():
        if is_quantized(path):
            held[path], held[scale_path(path)] = quantized_weights(np.asarray(value))
        else:
            held[path] = np.asarray(value)
    return nest(held)


def outcome(
    layout: tuple[int, int], params: Any, *, quantized: bool = False, sizes: GriffinConfig = SIZES
) -> tuple[Array, Array]:
    """Logits and rings [2 b w h], or of several heads [2 b k w h]."""
    chips = Chips(*layout)
    devices = Devices.of(mesh_of(jax.devices(), chips))
    program = devices.jit(
        partial(read, Griffin(shard_config(sizes, chips), jnp.float32, chips=chips)),
        (PARAMS, by_slot, STATE),
        lambda params, tokens, state: (PartitionSpec(DATA, None, MODEL), state),
    )
    state = devices.maker(lambda: init_state(sizes, ROWS, jnp.float32, quantized))()
    logits, state = program(devices.put(params, PARAMS), TEXTS, state)
    held = jax.device_get(state.blocks[1])
    return logits, jnp.stack(rings.read(held, jnp.float32))


def main(path: str) -> None:
    floats = random_params(SIZES, 1, jnp.float32)
    told = {"floats": outcome((1, 1), floats)}
    params = in_int8(floats)
    for layout in LAYOUTS:
        told["x".join(map(str, layout))] = outcome(layout, params, quantized=True)
    of_two = random_params(TWO_HEADS, 1, jnp.float32)
    for layout in ((1, 1), (2, 4)):
        name = "two heads on " + "x".join(map(str, layout))
        told[name] = outcome(layout, of_two, sizes=TWO_HEADS)
    np.savez(
        path,
        **{f"{name} logits": logits for name, (logits, _) in told.items()},
        **{f"{name} rings": held for name, (_, held) in told.items()},
    )


if __name__ == "__main__":
    main(sys.argv[1])
