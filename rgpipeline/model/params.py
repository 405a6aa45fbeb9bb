"""The parameter tree: a plain nested dict of arrays, laid out for speed.

Matrices have their output axes first: a CPU multiplies up to twice as fast by them, and for an
accelerator the order makes no difference. Only the gates' matrices have them last: XLA needs that
order for a CPU's batched product, and would copy any other into it at every step.

    embedder.embedding                  [v d]
    blocks_{i}.temporal_norm.scale      [d]
    blocks_{i}.temporal                 of a recurrent block:
        linear_xy.kernel, .bias         [2 e d], [2 e]       the RG-LRU's branch, then the gate's
        conv_kernel, conv_bias          [4 e], [e]           the last row weighs the present
        gates.kernel, .bias             [n i 2*i], [2 n i]   the input gate, then the decay's
        a_param                         [e]
        linear_out.kernel, .bias        [d e], [d]
    blocks_{i}.temporal                 of an attention block:
        query.kernel                    [n h d]
        key_value.kernel                [2 k*h d]            k heads of each, mostly one
        out.kernel, .bias               [d d], [d]
    blocks_{i}.channel_norm.scale       [d]
    blocks_{i}.mlp.up.kernel, .bias     [2 m d], [2 m]       the GeLU's branch first
    blocks_{i}.mlp.down.kernel, .bias   [d m], [d]
    final_norm.scale                    [d]
    lm_head.kernel                      [v d]           unless the embedding is the head

A quantized model holds the embedding and all kernels but the gates' in int8, and beside each its
scales, float32, without the last axis: `embedder.embedding_scale` [v], `….kernel_scale` [*o].

Otherwise kernels and the embedding have the model's dtype. The rest, a thousandth of the whole, is
always float32: it is used in float32 arithmetic only (see `ops.primitives`).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from rgpipeline.model import quantize
from rgpipeline.model.config import GriffinConfig
from rgpipeline.model.layers.array_types import shape_of
from rgpipeline.model.layers.griffin import Griffin
from rgpipeline.model.param_tree import HostArray, ParamPath, Params, flatten, nest

# The paper draws the decay a (at gate 1) so that a^2 is uniform between these squared.
_MIN_DECAY, _MAX_DECAY = 0.9, 0.999


def param_shapes(config: GriffinConfig, dtype: DTypeLike, quantized: bool = False) -> Params:
    """The tree with a `jax.ShapeDtypeStruct` at every leaf; nothing is computed."""
    tokens = jnp.zeros((1, 1), jnp.int32)
    variables = jax.eval_shape(Griffin(config).init, jax.random.key(0), tokens)
    shapes = flatten(variables["params"])
    structs = {}
    for path, leaf in shapes.items():
        if quantized and quantize.is_quantized(path):
            structs[path] = shape_of(leaf.shape, jnp.int8)
            structs[quantize.scale_path(path)] = shape_of(leaf.shape[:-1], jnp.float32)
        else:
            structs[path] = shape_of(leaf.shape, stored_dtype(path, dtype))
    return nest(structs)


def stored_dtype(path: ParamPath, dtype: DTypeLike) -> DTypeLike:
    """The dtype in which a model of `dtype`, not quantized, keeps the parameter at `path`."""
    return dtype if path[-1] in ("kernel", "embedding") else jnp.float32


def head_of(params: Params) -> tuple[Array, Array | None]:
    """The matrix that logits are made with, [v d], and its scales [v] if it is in int8."""
    if "lm_head" in params:
        return params["lm_head"]["kernel"], params["lm_head"].get("kernel_scale")
    return params["embedder"]["embedding"], params["embedder"].get("embedding_scale")


def random_params(config: GriffinConfig, seed: int, dtype: DTypeLike) -> Params:
    """A whole parameter tree on the default device, the same for the same arguments.

    Kernels are normal with variance 1 / inputs (the residual ones times 2 / depth), decays as in
    the official library (`rnn_real_param_init`), norms and biases small but not zero, so that a
    test notices one that is left out.
    """
    rng = np.random.default_rng(seed)
    leaves = flatten(param_shapes(config, dtype))
    return nest(
        {
            path: jax.device_put(_draw(rng, path, leaf.shape, config).astype(leaf.dtype))
            for path, leaf in leaves.items()
        }
    )


def _draw(
    rng: np.random.Generator, path: ParamPath, shape: tuple[int, ...], config: GriffinConfig
) -> HostArray:
    if path[-1] == "a_param":
        square = rng.uniform(_MIN_DECAY**2, _MAX_DECAY**2, shape)
        decays: HostArray = np.log(np.expm1(-0.5 * np.log(square)))
        return decays
    return rng.standard_normal(shape, np.float32) * np.float32(_scale(path, shape, config))


def _scale(path: ParamPath, shape: tuple[int, ...], config: GriffinConfig) -> float:
    if path[-1] in ("kernel", "embedding"):
        inputs = shape[1] if path[-2] == "gates" else shape[-1]
        is_last = path[-2] in ("linear_out", "out", "down")
        return math.sqrt((2 / config.depth if is_last else 1) / inputs)
    return 0.5 if path[-1] == "conv_kernel" else 0.1
