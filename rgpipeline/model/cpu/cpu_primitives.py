"""Products with weight matrices as a CPU does them fastest: `W @ x.T`, features first.

There the matrix is read as it lies. For `x @ W.T` it is packed first, anew at every call, and at
the 64 rows of a decode step that takes up to half of the product's time (2 cores of a Zen 5, an
MLP of 1024 by 3072 with 64 rows: 3.1 ms against 4.6 in float32, 1.7 against 2.5 in bfloat16).

What follows wants rows first, so results are turned, and with many rows that costs more than it
saves. Two ways of XLA's have to be minded: it makes `(W @ x.T).T` into `x @ W.T` again, unless
something, a bias or a barrier, stands between; and it multiplies in float32 what is turned on its
way into a product of bfloat16.
"""

from functools import cache

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import Array, lax
from jax.typing import DTypeLike

from rgpipeline.model.platforms import precision_of

_MOST_ROWS = 128


def pays(rows: int) -> bool:
    """Whether products of so many rows are faster so."""
    return rows <= _MOST_ROWS


def product(matrix: Array, x: Array, contracted: int) -> Array:
    """[o i] by x, whose axis `contracted` is i and whose other one is r, to float32 [o r]."""
    return lax.dot_general(
        matrix,
        x.astype(matrix.dtype),
        (((1,), (contracted,)), ((), ())),
        precision=precision_of(matrix.dtype),
        preferred_element_type=jnp.float32,
    )


def linear(x: Array, matrix: Array, bias: Array | None) -> Array:
    """Rows [r i] by [o i], with a bias [o] or none, to float32 [r o]."""
    made = product(matrix, x, 1)
    if bias is not None:
        return (made + _beside(bias)).T
    kept: Array = lax.optimization_barrier(made)  # type: ignore[no-untyped-call]
    return kept.T


def gated_mlp(
    x: Array, up: Array, up_bias: Array, down: Array, down_bias: Array, *, dtype: DTypeLike
) -> Array:
    """`down(gelu(up[0]) * up[1])`, with features first from beginning to end.

    Args:
        x: rows, [r d].
        up: [2*i d], both halves one under the other.
        up_bias: [2*i].
        down: [d i].
        down_bias: [d].
        dtype: what the upper product is rounded to.

    Returns:
        float32 [r d].
    """
    both = (product(up, x, 1) + _beside(up_bias)).astype(dtype)
    gate, factor = jnp.split(both, 2)
    gated = jax.nn.gelu(gate.astype(jnp.float32)) * factor
    return (product(down, gated, 0) + _beside(down_bias)).T


def _beside(bias: Array) -> Array:
    return bias.astype(jnp.float32)[:, None]


Shape = tuple[int, ...]


def einsum(equation: str, left: Array, right: Array, precision: lax.Precision) -> Array:
    """An einsum summed in float32, of float32 or bfloat16 operands.

    With some CPUs (Xeons with AMX), XLA compiles batched products of bfloat16 that it then cannot
    run. Where a trial fails, operands are converted first: the products are the same.
    """

    def narrow(left: Array, right: Array) -> Array:
        return jnp.einsum(
            equation, left, right, precision=precision, preferred_element_type=jnp.float32
        )

    def wide(left: Array, right: Array) -> Array:
        return narrow(left.astype(jnp.float32), right.astype(jnp.float32))

    on_cpu = jax.default_backend() == "cpu" and left.dtype == right.dtype == jnp.bfloat16
    if not on_cpu or runs_in_bfloat16(equation, left.shape, right.shape):
        return narrow(left, right)
    # Another platform's program may be compiled here, without a device of it.
    product: Array = lax.platform_dependent(left, right, cpu=wide, default=narrow)
    return product


@cache
def runs_in_bfloat16(equation: str, left: Shape, right: Shape) -> bool:
    """Whether the CPU runs this einsum of two bfloat16 arrays; found out by running it."""

    def trial(left: Array, right: Array) -> Array:
        return jnp.einsum(equation, left, right, preferred_element_type=jnp.float32)

    zeros = [np.zeros(shape, ml_dtypes.bfloat16) for shape in (left, right)]
    try:
        # Compiled first: called as it is, it would become part of the program being traced.
        jax.jit(trial).lower(*zeros).compile()(*zeros).block_until_ready()
    except jax.errors.JaxRuntimeError:
        return False
    return True
