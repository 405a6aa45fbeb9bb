"""Rows of activations in int8, in one pass.

XLA makes two passes, one for each row's largest number and one for the rest, and changes the layout
of the scales in between: five times as long.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from rgpipeline.model.layers.array_types import shape_of
from rgpipeline.model.platforms import Kernels, on_tpu
from rgpipeline.model.quantize import LARGEST, LEAST_SCALE

_TILE = 32  # rows of a memory tile of int8
_MAX_ROWS = 128  # per grid step
_LANES = 128
_VMEM_BYTES = 64 << 20

Quantize = Callable[[Array], tuple[Array, Array]]


def select(kernels: Kernels, width: int) -> Quantize | None:
    """`quantized_rows` for this width; None where it isn't whole memory tiles of a TPU."""
    if not on_tpu(kernels) or width % _LANES:
        return None
    return partial(quantized_rows, interpret=kernels == "interpret")


def quantized_rows(x: Array, *, interpret: Any = False) -> tuple[Array, Array]:
    """The same as `quantize.quantized_rows`, of [r i]; `interpret` as in `pallas_call`."""
    count, width = x.shape
    whole = pl.cdiv(count, _TILE) * _TILE
    rows = max(n for n in range(_TILE, _MAX_ROWS + 1, _TILE) if whole % n == 0)
    block = pl.BlockSpec((rows, width), lambda step: (step, 0))
    numbers, scale = pl.pallas_call(
        _kernel,
        grid=(pl.cdiv(count, rows),),
        in_specs=[block],
        out_specs=[block, pl.BlockSpec((rows, 1), lambda step: (step, 0))],
        out_shape=[shape_of(x.shape, jnp.int8), shape_of((count, 1), jnp.float32)],
        compiler_params=pltpu.CompilerParams(vmem_limit_bytes=_VMEM_BYTES),
        interpret=interpret,
        name="quantize_rows",
    )(x)
    return numbers, scale[:, 0]


def _kernel(x: Any, numbers: Any, scale: Any) -> None:
    def tile(index: Any, _: None) -> None:
        these = pl.ds(pl.multiple_of(index * _TILE, _TILE), _TILE)
        largest = jnp.max(jnp.abs(x[these].astype(jnp.float32)), axis=-1, keepdims=True)
        step = jnp.maximum(largest / LARGEST, LEAST_SCALE)
        whole = jnp.round(x[these].astype(jnp.float32) * (1 / step))
        numbers[these] = whole.astype(jnp.int32).astype(jnp.int8)
        scale[these] = step

    lax.fori_loop(0, x.shape[0] // _TILE, tile, None)
