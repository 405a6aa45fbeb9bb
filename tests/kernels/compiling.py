"""Compiles every kernel, at the shapes of a 2B model, for the TPU named on the command line.

A process of its own, because libtpu reads its environment when it is loaded. Prints a line for
each kernel that is compiled: its name and the bytes of memory it needs beside its operands.
"""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rgpipeline.model.config import known_config
from rgpipeline.model.griffin_state import init_state
from rgpipeline.model.kernels import (
    decode_attention,
    head,
    prefill_attention,
    quantize_rows,
    recurrence,
    recurrence_scan,
)
from rgpipeline.model.layers import attention, rglru
from rgpipeline.model.params import param_shapes

SLOTS = 64
CHUNKS = 4, 256  # rows, tokens
CONFIG = known_config("recurrentgemma-2b")


def programs():
    """(name, function, shapes of its arguments, which of them are donated)."""

    width, inner = CONFIG.width, CONFIG.lru_width
    state = state_of(SLOTS)
    params = param_shapes(CONFIG, jnp.bfloat16)
    flags, numbers = shape(SLOTS, dtype=jnp.bool_), shape(SLOTS, dtype=jnp.float32)
    new = shape(SLOTS, 1, CONFIG.head_dim)
    queries = shape(SLOTS, 1, CONFIG.heads, CONFIG.head_dim)
    yield (
        "decode_attention",
        decode_attention.decode,
        (queries, new, new, state.blocks[2], state.position, flags),
        3,
    )
    rings = jax.eval_shape(lambda: init_state(CONFIG, SLOTS, jnp.bfloat16, quantized=True))
    yield (
        "decode_attention_int8",
        decode_attention.decode,
        (queries, new, new, rings.blocks[2], state.position, flags),
        3,
    )
    temporal = params["blocks_0"]["temporal"]
    weights = rglru.RecurrentWeights(
        *(temporal[name] for name in ("conv_kernel", "conv_bias")),
        *(temporal["gates"][name] for name in ("kernel", "bias")),
        temporal["a_param"],
    )
    both = shape(2, SLOTS, inner)
    yield "recurrence", recurrence.step, (both, weights, flags, flags, state.blocks[0]), 4
    yield from of_chunks(weights)
    yield "quantize_rows", quantize_rows.quantized_rows, (shape(SLOTS, CONFIG.mlp_width),), ()
    table = params["embedder"]["embedding"]
    noise = shape(SLOTS, CONFIG.vocab_size // head.BLOCK, dtype=jnp.float32)
    yield (
        "head",
        lambda *given: head.choose(*given, soft_cap=30.0),
        (shape(SLOTS, width), table, None, numbers, noise),
        (),
    )
    embedder = param_shapes(CONFIG, jnp.bfloat16, quantized=True)["embedder"]
    yield (
        "head_int8",
        lambda *given: head.choose(*given, soft_cap=30.0),
        (shape(SLOTS, width), embedder["embedding"], embedder["embedding_scale"], numbers, noise),
        (),
    )


def of_chunks(weights: rglru.RecurrentWeights):
    rows, _ = CHUNKS
    state = state_of(rows)
    flags, counts = shape(rows, dtype=jnp.bool_), shape(rows, dtype=jnp.int32)
    both = shape(2, *CHUNKS, CONFIG.lru_width)
    yield (
        "recurrence_scan",
        recurrence_scan.scan,
        (both, weights, flags, counts, state.blocks[0]),
        (),
    )
    numbers = partial(shape, dtype=jnp.float32)
    quarter = numbers(*CHUNKS, CONFIG.head_dim // 4)
    operands = (
        *(numbers(*CHUNKS, CONFIG.heads, CONFIG.head_dim), numbers(2, *CHUNKS, CONFIG.head_dim)),
        *(attention.Angles(quarter, quarter), state.blocks[2], state.position, counts),
    )
    yield "prefill_attention", prefill_attention.prefill, operands, 3


def shape(*axes: int, dtype=jnp.bfloat16):
    return jax.ShapeDtypeStruct(axes, dtype)


def state_of(rows: int):
    return jax.eval_shape(lambda: init_state(CONFIG, rows, jnp.bfloat16))


def main(topology: str) -> None:
    described = topologies.get_topology_desc(topology_name=topology, platform="tpu")
    here = NamedSharding(Mesh(np.array(described.devices[:1]), ("x",)), PartitionSpec())
    for name, function, shapes, donated in programs():
        placed = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), shapes
        )
        compiled = jax.jit(function, donate_argnums=donated).lower(*placed).compile()
        assert "tpu_custom_call" in compiled.as_text()
        print(name, compiled.memory_analysis().temp_size_in_bytes)


if __name__ == "__main__":
    main(sys.argv[1])
