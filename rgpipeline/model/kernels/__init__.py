"""Pallas kernels for TPU: where XLA's own fusions leave the memory or the matrix units waiting.

Each has a plain counterpart in `rgpipeline.model` and gives the same numbers, up to rounding.
`Griffin.kernels` chooses between the two, and where a kernel can't do a shape the plain way is
taken.
"""

from typing import Literal

import jax
from jax.typing import DTypeLike

# plain: XLA does everything. tpu: kernels, compiled. interpret: kernels, run on any platform, for
# tests.
Kernels = Literal["plain", "tpu", "interpret"]


def for_platform(platform: str) -> Kernels:
    """What a device of this platform (`tpu`, `cpu`, `cuda`) is best served with."""
    return "tpu" if platform == "tpu" else "plain"


def shape_of(shape: tuple[int, ...], dtype: DTypeLike) -> jax.ShapeDtypeStruct:
    """What a kernel's output looks like."""
    struct: jax.ShapeDtypeStruct = jax.ShapeDtypeStruct(shape, dtype)  # type: ignore[no-untyped-call]
    return struct
