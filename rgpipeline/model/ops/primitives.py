"""Products with weights, and einsums.

The rules of mixed precision, for a model in bfloat16: matrix products take bfloat16 operands and
sum in float32; everything elementwise is float32, and activations are rounded to bfloat16 where
they cross memory. Matrices in int8 are multiplied in int8 (see `quantize`). The official library
computes norms, gates and logits in bfloat16. Float32 costs nothing next to the products, and brings
the output closer to float32's.
"""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import DTypeLike

from rgpipeline.model.kernels import quantize_rows
from rgpipeline.model.layers.array_types import Logits
from rgpipeline.model.ops import cpu_primitives
from rgpipeline.model.platforms import Kernels, on_tpu, precision_of
from rgpipeline.model.quantize import quantized_rows


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
        kernels: Which Pallas kernels may be used.

    Returns:
        float32 [... *o].
    """
    if scale is not None:
        product = _int8_linear(x, kernel, scale, kernels)
        return product if bias is None else product + bias.astype(jnp.float32)
    if not cpu_primitives.is_faster(math.prod(x.shape[:-1]), kernel.dtype):
        return _linear(x, kernel, bias)
    operands = (x, kernel) if bias is None else (x, kernel, bias)
    chosen: Array = lax.platform_dependent(*operands, cpu=cpu_primitives.linear, default=_linear)
    return chosen


def linear_pair(
    x: Array, kernel: Array, bias: Array, scale: Array | None, dtype: DTypeLike, kernels: Kernels
) -> tuple[Array, Array]:
    """Two linear layers of one input, stacked along the first axis of `kernel` [2 o i].

    Arguments are those of `linear`; results are rounded to `dtype`, each [... o].
    """
    if not on_tpu(kernels) or scale is None:
        both = linear(x, kernel, bias, scale, kernels).astype(dtype)
        return both[..., 0, :], both[..., 1, :]
    # A TPU's compiler makes two int8 products that together take little more than half the time of
    # one twice as wide: prefill is a quarter faster. In bfloat16 there is no difference.
    first, second = (
        linear(x, kernel[which], bias[which], scale[which], kernels).astype(dtype)
        for which in range(2)
    )
    return first, second


def gated_mlp(
    x: Array, up: Array, up_bias: Array, down: Array, down_bias: Array, dtype: DTypeLike
) -> Array:
    """`down(gelu(up[0]) * up[1])`, GeLU in its tanh form.

    Args:
        x: [... d].
        up: [2 m d], not in int8.
        up_bias: [2 m].
        down: [d m].
        down_bias: [d].
        dtype: What the upper product is rounded to.

    Returns:
        float32 [... d].
    """
    operands = (x, up, up_bias, down, down_bias)
    by_rows, transposed = _gated_mlps(jnp.dtype(dtype))
    if not cpu_primitives.is_faster(math.prod(x.shape[:-1]), up.dtype):
        return by_rows(*operands)
    chosen: Array = lax.platform_dependent(*operands, cpu=transposed, default=by_rows)
    return chosen


def gelu_gate(gate: Array, value: Array) -> Array:
    """`gelu(gate) * value` in float32."""
    return jax.nn.gelu(gate.astype(jnp.float32)) * value


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
    if cpu_primitives.can_halve(x.shape[0] * x.shape[1], inner):
        product = lax.platform_dependent(by_block, kernel, cpu=_halved_blocks, default=_blocks)
    else:
        product = _blocks(by_block, kernel)
    product = product.reshape(*product.shape[:-1], layers, out)
    product = jnp.moveaxis(product, (3, 0), (0, 3)) + bias.astype(jnp.float32)[:, None, None]
    return product.reshape(layers, *x.shape[:-1], blocks * out)


def logits(table: Array, hidden: Array, soft_cap: float, scale: Array | None = None) -> Logits:
    """Scores of every token, float32 [... v]; capped to (-soft_cap, soft_cap) if it is not 0.

    Float32, because a bfloat16 logit near 20 has a step of 0.125, which reorders tokens.

    Args:
        table: [v d].
        hidden: [... d].
        soft_cap: See above.
        scale: float32 [v], of a table in int8.
    """

    def capped(logits: Array) -> Array:
        return jnp.tanh(logits / soft_cap) * soft_cap if soft_cap else logits

    def by_rows(hidden: Array, table: Array) -> Array:
        return capped(_matmul(hidden, table))

    def transposed(hidden: Array, table: Array) -> Array:
        return capped(cpu_primitives.transposed_matmul(table, hidden, 1)).T

    if scale is not None:
        return capped(_int8_linear(hidden, table, scale, "plain"))
    if hidden.ndim != 2 or not cpu_primitives.is_faster(hidden.shape[0], table.dtype):
        return by_rows(hidden, table)
    chosen: Array = lax.platform_dependent(hidden, table, cpu=transposed, default=by_rows)
    return chosen


def einsum(equation: str, left: Array, right: Array) -> Array:
    """An einsum of two arrays of one dtype, summed in float32; returns float32."""

    def plain(left: Array, right: Array) -> Array:
        precision = precision_of(dtype)
        return jnp.einsum(
            equation, left, right, precision=precision, preferred_element_type=jnp.float32
        )

    def widened(left: Array, right: Array) -> Array:
        return plain(left.astype(jnp.float32), right.astype(jnp.float32))

    dtype = left.dtype
    if not cpu_primitives.must_widen(equation, left, right):
        return plain(left, right)
    # The program may be compiled for another platform than this machine's.
    product: Array = lax.platform_dependent(left, right, cpu=widened, default=plain)
    return product


def _linear(x: Array, kernel: Array, bias: Array | None = None) -> Array:
    *out, width = kernel.shape
    product = _matmul(x, kernel.reshape(-1, width)).reshape(*x.shape[:-1], *out)
    return product if bias is None else product + bias.astype(jnp.float32)


def _matmul(x: Array, matrix: Array) -> Array:
    """[... i] by [o i] to float32 [... o].

    The matrix must have two axes: others XLA's CPU backend copies into another layout, at every
    call.
    """
    return lax.dot_general(
        x.astype(matrix.dtype),
        matrix,
        (((x.ndim - 1,), (1,)), ((), ())),
        precision=precision_of(matrix.dtype),
        preferred_element_type=jnp.float32,
    )


def _int8_linear(x: Array, kernel: Array, scale: Array, kernels: Kernels) -> Array:
    """Floats [... i] by int8 [*o i] with scales [*o]: float32 [... *o]."""
    quantize = quantize_rows.select(kernels, x.shape[-1]) or quantized_rows
    numbers, row_scale = quantize(x.reshape(-1, x.shape[-1]))
    matrix = kernel.reshape(-1, kernel.shape[-1])
    axes = tuple(range(x.ndim - 1, x.ndim - 1 + scale.ndim))
    product = lax.platform_dependent(
        numbers, matrix, cpu=cpu_primitives.int8_matmul, default=_int8_matmul
    )
    # The output's axes come before the scales: only then XLA fuses all of it into the product.
    product = product.reshape(*x.shape[:-1], *scale.shape).astype(jnp.float32)
    scaled: Array = product * jnp.expand_dims(row_scale.reshape(x.shape[:-1]), axes) * scale
    return scaled


def _int8_matmul(left: Array, right: Array) -> Array:
    """int8 [r i] by int8 [o i] to int32 [r o]."""
    dimensions = (((1,), (1,)), ((), ()))
    return lax.dot_general(left, right, dimensions, preferred_element_type=jnp.int32)


@cache
def _gated_mlps(dtype: np.dtype[Any]) -> tuple[Callable[..., Array], Callable[..., Array]]:
    """By rows and transposed; the same two for all layers, so that jax traces them once."""
    return partial(_gated_mlp, dtype=dtype), partial(cpu_primitives.gated_mlp, dtype=dtype)


def _gated_mlp(
    x: Array, up: Array, up_bias: Array, down: Array, down_bias: Array, *, dtype: DTypeLike
) -> Array:
    both = _linear(x, up, up_bias).astype(dtype)
    return _linear(gelu_gate(both[..., 0, :], both[..., 1, :]), down, down_bias)


def _blocks(by_block: Array, kernel: Array) -> Array:
    """The product of [b t n i] and [n i o], float32 [n b t o]."""
    return einsum("btni,nio->nbto", by_block, kernel)


def _halved_blocks(by_block: Array, kernel: Array) -> Array:
    return cpu_primitives.halved_blocks(by_block, kernel, einsum)
