"""Walls inside a program, so that what stands on one side doesn't change the bits on the other.

XLA fuses neighbouring operations and contracts `a * b - c` into one rounding where it can. So the
same formula may round differently in two programs that do different things with its result, and
a row would get other bits because of what its neighbours ask for.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def fenced(
    needed: jax.Array, body: Callable[..., jax.Array], *operands: Any, otherwise: jax.Array
) -> jax.Array:
    """`body(*operands)`, computed to the same bits in whatever program it is part of.

    On the CPU only the branches of a conditional are compiled each by itself: barriers are gone
    before fusion there. Elsewhere a barrier holds, and a conditional would keep the compiler from
    overlapping what is around it.

    Args:
      needed: bool scalar that isn't known when the program is compiled; where it is False the
        result may be `otherwise`.
      body: closes over nothing that is traced.
      otherwise: of the result's shape and dtype.
    """

    def wall(needed: jax.Array, otherwise: jax.Array, *operands: Any) -> jax.Array:
        chosen: jax.Array = lax.cond(
            needed,
            lambda _, *operands: body(*operands),
            lambda otherwise, *_: otherwise,
            otherwise,
            *operands,
        )
        return chosen

    def barrier(_: jax.Array, __: jax.Array, *operands: Any) -> jax.Array:
        operands = lax.optimization_barrier(operands)  # type: ignore[no-untyped-call]
        return jnp.asarray(
            lax.optimization_barrier(body(*operands))  # type: ignore[no-untyped-call]
        )

    chosen: jax.Array = lax.platform_dependent(
        needed, otherwise, *operands, cpu=wall, default=barrier
    )
    return chosen
