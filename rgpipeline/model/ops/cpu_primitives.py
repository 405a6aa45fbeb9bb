"""Products as XLA's CPU backend makes them fastest, or can make them at all.

**Transposed.** For `W @ x.T` a weight matrix is read as it lies in memory. For `x @ W.T` XLA packs
it first, anew at every call, and at the 64 rows of a decode step that takes up to half of the
product's time (2 cores of a Zen 5, an MLP of 1024 by 3072 with 64 rows: 3.1 ms against 4.6 in
float32, 1.7 against 2.5 in bfloat16). What follows wants rows first, so results are transposed
again; with many rows that costs more than it saves. Two of XLA's rewrites must be avoided: it turns
`(W @ x.T).T` back into `x @ W.T` unless a bias or a barrier stands between; and it multiplies in
float32 if an operand is transposed on its way into a product of bfloat16.

**In halves.** XLA runs a batched product of small blocks on one core, but on all cores if a sum
follows it. So the inner axis is split in two halves, and their products are summed.

**Few rows, with AVX2 and without AVX-512.** There a transposed product of bfloat16 takes the time
of eight rows at least, because XLA converts the whole matrix first; up to seven rows are faster the
usual way. In int8, 4 to 16 rows are faster transposed, and one row needs padding to two only. (Zen
3, milliseconds of CPU time for a matrix of 15360 by 2560: bfloat16 with 2 rows 8.8 against 21.2;
int8 with 1 row 6.9 against 10.1, with 8 rows 8.4 against 12.2.) Products of int8 are exact, so no
bits depend on it.

**Widened.** With some CPUs (Xeons with AMX), XLA compiles batched products of bfloat16 that it then
cannot run. Where a trial fails, operands are converted to float32; the products are the same.
"""

from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import Array, lax
from jax.typing import DTypeLike

from rgpipeline.model.platforms import has_avx2_only, precision_of

Shape = tuple[int, ...]

_MAX_TRANSPOSED_ROWS = 128
_MIN_TRANSPOSED_ROWS_IN_BFLOAT16 = 8  # without AVX-512
_INT8_ROWS = 4  # XLA takes longer for one row than for four
_INT8_ROWS_ON_AVX2 = 2
_TRANSPOSED_INT8_ROWS = range(4, 17)  # without AVX-512
_HALVED_ROWS = 64  # rows at a time; with more, and blocks of 128, it takes longer
_MAX_HALVED_ROWS = 512  # in all: every 64 are a product of their own, and the program grows


def is_faster(rows: int, dtype: DTypeLike) -> bool:
    """Whether products of `rows` rows with matrices of `dtype` are faster transposed."""
    if dtype == jnp.bfloat16 and has_avx2_only() and rows < _MIN_TRANSPOSED_ROWS_IN_BFLOAT16:
        return False
    return rows <= _MAX_TRANSPOSED_ROWS


def transposed_matmul(matrix: Array, x: Array, contracted: int) -> Array:
    """[o i] by `x`, whose axis `contracted` is i and whose other one is r, to float32 [o r]."""
    return lax.dot_general(
        matrix,
        x.astype(matrix.dtype),
        (((1,), (contracted,)), ((), ())),
        precision=precision_of(matrix.dtype),
        preferred_element_type=jnp.float32,
    )


def linear(x: Array, kernel: Array, bias: Array | None = None) -> Array:
    """[... i] by [*o i], with a bias [*o] or none, to float32 [... *o]; transposed."""
    *out, width = kernel.shape
    product = transposed_matmul(kernel.reshape(-1, width), x.reshape(-1, width), 1)
    if bias is not None:
        product = (product + _column(bias.reshape(-1))).T
    else:
        product = lax.optimization_barrier(product).T  # type: ignore[no-untyped-call]
    return product.reshape(*x.shape[:-1], *out)


def gated_mlp(
    x: Array, up: Array, up_bias: Array, down: Array, down_bias: Array, *, dtype: DTypeLike
) -> Array:
    """As `primitives.gated_mlp`, transposed from beginning to end."""
    width = x.shape[-1]
    rows, up = x.reshape(-1, width), up.reshape(-1, width)
    both = (transposed_matmul(up, rows, 1) + _column(up_bias.reshape(-1))).astype(dtype)
    gate, value = jnp.split(both, 2)
    gated = jax.nn.gelu(gate.astype(jnp.float32)) * value
    return (transposed_matmul(down, gated, 0) + _column(down_bias)).T.reshape(x.shape)


def _column(bias: Array) -> Array:
    return bias.astype(jnp.float32)[:, None]


def int8_matmul(left: Array, right: Array) -> Array:
    """int8 [r i] by int8 [o i] to int32 [r o], with rows added where there are too few."""
    rows = left.shape[0]
    dimensions = (((1,), (1,)), ((), ()))
    if has_avx2_only() and rows in _TRANSPOSED_INT8_ROWS:
        product = lax.dot_general(right, left, dimensions, preferred_element_type=jnp.int32)
        by_row: Array = lax.optimization_barrier(product).T  # type: ignore[no-untyped-call]
        return by_row
    least = _INT8_ROWS_ON_AVX2 if has_avx2_only() else _INT8_ROWS
    padded = jnp.pad(left, ((0, max(0, least - rows)), (0, 0)))
    return lax.dot_general(padded, right, dimensions, preferred_element_type=jnp.int32)[:rows]


def can_halve(rows: int, inner: int) -> bool:
    """Whether `halved_blocks` is for so many rows and this width of a block."""
    return rows <= _MAX_HALVED_ROWS and inner % 2 == 0


def halved_blocks(by_block: Array, kernel: Array, einsum: Callable[..., Array]) -> Array:
    """The product of [b t n i] and [n i o], float32 [n b t o]: in halves, some rows at a time."""
    batch, length, blocks, _ = by_block.shape
    x = by_block.reshape(batch * length, blocks, 2, -1)
    kernel = kernel.reshape(blocks, 2, -1, kernel.shape[-1])
    pieces = [
        jnp.sum(einsum("rnhi,nhio->nhro", x[first : first + _HALVED_ROWS], kernel), axis=1)
        for first in range(0, batch * length, _HALVED_ROWS)
    ]
    return jnp.concatenate(pieces, axis=1).reshape(blocks, batch, length, -1)


def must_widen(equation: str, left: Array, right: Array) -> bool:
    """Whether this machine is a CPU that can't run an einsum of these arrays as they are."""
    if jax.default_backend() != "cpu" or not left.dtype == right.dtype == jnp.bfloat16:
        return False
    return not runs_in_bfloat16(equation, left.shape, right.shape)


@cache
def runs_in_bfloat16(equation: str, left: Shape, right: Shape) -> bool:
    """Whether the CPU runs this einsum of two bfloat16 arrays; found by running it."""

    def trial(left: Array, right: Array) -> Array:
        return jnp.einsum(equation, left, right, preferred_element_type=jnp.float32)

    zeros = [np.zeros(shape, ml_dtypes.bfloat16) for shape in (left, right)]
    try:
        # Compiled first: a plain call would become part of the program that is being traced.
        jax.jit(trial).lower(*zeros).compile()(*zeros).block_until_ready()
    except jax.errors.JaxRuntimeError:
        return False
    return True
