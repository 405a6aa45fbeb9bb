"""Pallas kernels for TPUs and GPUs, where XLA's own fusions leave memory or matrix units waiting.

Each has a plain counterpart in `rgpipeline.model` and gives the same numbers, up to rounding.
`Griffin.kernels` chooses between the two, and where a kernel can't do a shape the plain way is
taken.
"""

from typing import Literal

import jax
from jax.typing import DTypeLike

# plain: XLA does everything. tpu, gpu: kernels of that device, compiled. interpret: the TPU's, run
# on any platform, for tests.
Kernels = Literal["plain", "tpu", "gpu", "interpret"]

_OF_PLATFORMS: dict[str, Kernels] = {"tpu": "tpu", "gpu": "gpu", "cuda": "gpu"}


def for_platform(platform: str) -> Kernels:
    """What a device of this platform (`tpu`, `cpu`, `gpu`) is best served with."""
    return _OF_PLATFORMS.get(platform, "plain")


def on_tpu(kernels: Kernels) -> bool:
    """Whether these are the TPU's."""
    return kernels in ("tpu", "interpret")


def shape_of(shape: tuple[int, ...], dtype: DTypeLike) -> jax.ShapeDtypeStruct:
    """What a kernel's output looks like."""
    struct: jax.ShapeDtypeStruct = jax.ShapeDtypeStruct(shape, dtype)  # type: ignore[no-untyped-call]
    return struct
