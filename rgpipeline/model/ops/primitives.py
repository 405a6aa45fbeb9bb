"""Linear layers, norms and embeddings: pure functions of arrays and parameters.

The rules of mixed precision, for a model in bfloat16: matrix products take bfloat16 operands and
sum in float32; everything elementwise is float32, and what crosses memory in bulk is rounded
back. Matrices in int8 are multiplied in int8 (see `quantize`). The official library computes
norms, gates and logits in bfloat16 throughout; that these are float32 here costs nothing next to
the products and makes the output closer to float32's.
"""

import math

import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import Array, lax

from rgpipeline.model import quantize
from rgpipeline.model.cpu import cpu_primitives
from rgpipeline.model.kernels import quantize_rows
from rgpipeline.model.layers.array_types import Logits
from rgpipeline.model.platforms import Kernels, precision_of

_NORM_EPSILON = 1e-6
_ROWS_IN_HALVES = 64  # at once; with more, and blocks of 128, it takes longer
_MOST_ROWS_IN_HALVES = 512  # in all: each few are a product of their own, and the program grows


def linear(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    scale: Array | None = None,
    kernels: Kernels = "plain",
) -> Array:
    """`x @ kernel.T + bias`: the one place where activations meet a weight matrix.

    Args:
        x: [... i]; rounded to the kernel's dtype first.
        kernel: [*o i], any number of output axes.
        bias: [*o].
        scale: float32 [*o], of a kernel in int8.
        kernels: Whether Pallas kernels may be used.

    Returns:
        float32 [... *o].
    """
    if scale is not None:
        quantized = quantize_rows.chosen(kernels, x.shape[-1]) or quantize.quantized_rows
        whole = quantize.matmul(x, kernel, scale, quantized)
        return whole if bias is None else whole + bias.astype(jnp.float32)
    if not cpu_primitives.pays(math.prod(x.shape[:-1])):
        return _rows_first(x, kernel, bias)
    operands = (x, kernel) if bias is None else (x, kernel, bias)
    chosen: Array = lax.platform_dependent(*operands, cpu=_by_features, default=_rows_first)
    return chosen


# What `platform_dependent` chooses among are functions of the module: jax traces such once, and not
# for each layer.
def _rows_first(x: Array, kernel: Array, bias: Array | None = None) -> Array:
    *out, width = kernel.shape
    product = _matmul(x, kernel.reshape(-1, width)).reshape(*x.shape[:-1], *out)
    return product if bias is None else product + bias.astype(jnp.float32)


def _by_features(x: Array, kernel: Array, bias: Array | None = None) -> Array:
    *out, width = kernel.shape
    beside = None if bias is None else bias.reshape(-1)
    product = cpu_primitives.linear(x.reshape(-1, width), kernel.reshape(-1, width), beside)
    return product.reshape(*x.shape[:-1], *out)


def block_diagonal(x: Array, kernel: Array, bias: Array) -> Array:
    """Several block-diagonal linear layers of the same input.

    Args:
        x: [b t e] with e = n * i.
        kernel: [n i g*j], g layers of n blocks: for each block, the layers side by side.
        bias: [g n j].

    Returns:
        float32 [g b t n*j].
    """
    (layers, blocks, out), inner = bias.shape, kernel.shape[1]
    by_block = x.astype(kernel.dtype).reshape(*x.shape[:-1], blocks, inner)
    if x.shape[0] * x.shape[1] > _MOST_ROWS_IN_HALVES or inner % 2:
        product = _whole(by_block, kernel)
    else:
        product = lax.platform_dependent(by_block, kernel, cpu=_in_halves, default=_whole)
    product = product.reshape(*product.shape[:-1], layers, out)
    product = jnp.moveaxis(product, (3, 0), (0, 3)) + bias.astype(jnp.float32)[:, None, None]
    return product.reshape(layers, *x.shape[:-1], blocks * out)


def _whole(by_block: Array, kernel: Array) -> Array:
    """`block_diagonal`'s product of [b t n i] and [n i o], float32 [n b t o]."""
    return contract("btni,nio->nbto", by_block, kernel)


def _in_halves(by_block: Array, kernel: Array) -> Array:
    """As `_whole`, a few rows at a time.

    With a sum at its end, XLA's CPU backend runs it on all cores; else on one, if blocks are small.
    """
    batch, length, blocks, _ = by_block.shape
    x = by_block.reshape(batch * length, blocks, 2, -1)
    kernel = kernel.reshape(blocks, 2, -1, kernel.shape[-1])
    pieces = [
        jnp.sum(contract("rnhi,nhio->nhro", x[first : first + _ROWS_IN_HALVES], kernel), axis=1)
        for first in range(0, batch * length, _ROWS_IN_HALVES)
    ]
    return jnp.concatenate(pieces, axis=1).reshape(blocks, batch, length, -1)


def contract(equation: str, left: Array, right: Array) -> Array:
    """An einsum of two arrays of one dtype, summed in float32; returns float32."""
    return cpu_primitives.einsum(equation, left, right, precision_of(left.dtype))


def rms_norm(x: Array, scale: Array) -> Array:
    """`x / rms(x) * (1 + scale)` over the last axis, in float32 (Gemma's convention).

    Squares of bfloat16 lose half their digits, hence float32; Gemma's later code does the same.
    """
    x = x.astype(jnp.float32)
    variance = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
    return x * lax.rsqrt(variance + _NORM_EPSILON) * (scale.astype(jnp.float32) + 1)


def embed(table: Array, tokens: Array, scaled: bool, scale: Array | None = None) -> Array:
    """Rows of `table` [v d] for `tokens` [...], float32 [... d], times sqrt(d) if `scaled`.

    `scale`, float32 [v], is that of a table in int8.

    sqrt(d) is rounded to bfloat16, as it was in training (official `modules.Embedder.encode`).
    """
    rows = jnp.take(table, tokens, axis=0, mode="clip").astype(jnp.float32)
    if scale is not None:
        rows = rows * jnp.take(scale, tokens, mode="clip")[..., None]
    if not scaled:
        return rows
    return rows * np.float32(ml_dtypes.bfloat16(math.sqrt(table.shape[-1])))


def logits(table: Array, hidden: Array, soft_cap: float, scale: Array | None = None) -> Logits:
    """Scores of every token, float32 [... v]; capped to (-soft_cap, soft_cap) if it is not 0.

    Float32 because a bfloat16 logit near 20 has a step of 0.125, which reorders tokens.
    `scale`, float32 [v], is that of a table in int8.
    """

    def capped(logits: Array) -> Array:
        return jnp.tanh(logits / soft_cap) * soft_cap if soft_cap else logits

    def rows_first(hidden: Array, table: Array) -> Array:
        return capped(_matmul(hidden, table))

    def by_features(hidden: Array, table: Array) -> Array:
        return capped(cpu_primitives.product(table, hidden, 1)).T

    if scale is not None:
        return capped(quantize.matmul(hidden, table, scale))
    if hidden.ndim != 2 or not cpu_primitives.pays(hidden.shape[0]):
        return rows_first(hidden, table)
    chosen: Array = lax.platform_dependent(hidden, table, cpu=by_features, default=rows_first)
    return chosen


def _matmul(x: Array, matrix: Array) -> Array:
    """[... i] by [o i] to float32 [... o].

    The matrix has two axes and no more: for others XLA's CPU backend copies it into another
    layout, at every call.
    """
    return lax.dot_general(
        x.astype(matrix.dtype),
        matrix,
        (((x.ndim - 1,), (1,)), ((), ())),
        precision=precision_of(matrix.dtype),
        preferred_element_type=jnp.float32,
    )
