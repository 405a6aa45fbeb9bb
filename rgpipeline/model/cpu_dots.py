"""What this machine's CPU can multiply: asked of it, because XLA promises more than it keeps."""

from functools import cache

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import Array, lax

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
