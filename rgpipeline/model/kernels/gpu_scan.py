"""The recurrence over a chunk of tokens, on a GPU, in one kernel.

Left to XLA a token is three launches of almost nothing: 4.1 ms for 4 rows of 256 tokens and 2,560
channels on an H100, in 0.04 of which this is done. A program has a few channels of one row and goes
from token to token by itself; all tokens of a tile are loaded before the first of them is needed.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from rgpipeline.model.layers.array_types import shape_of
from rgpipeline.model.layers.rglru import Step
from rgpipeline.model.platforms import Kernels

_MOST_CHANNELS = 32  # of a program
_MOST_TOKENS = 16  # of a tile
_WARP = 32

Scan = Callable[[Step, Array], Array]


def select(kernels: Kernels) -> Scan | None:
    """`scan`, if it is for this device."""
    return scan if kernels == "gpu" else None


def scan(step: Step, h: Array, *, interpret: bool = False) -> Array:
    """Every state from `h` on, float32 [b t e], one token after another: as `rglru.scan`.

    Args:
        step: What each token does to the state.
        h: The state before, float32 [b e].
        interpret: As in `pallas_call`.
    """
    batch, length, inner = step.decay.shape
    channels = math.gcd(inner, _MOST_CHANNELS)
    of_tokens = pl.BlockSpec((None, length, channels), lambda row, block: (row, 0, block))
    states: Array = pl.pallas_call(
        partial(_kernel, tokens=math.gcd(length, _MOST_TOKENS)),
        grid=(batch, inner // channels),
        in_specs=[
            *(of_tokens, of_tokens),
            pl.BlockSpec((None, channels), lambda row, block: (row, block)),
        ],
        out_specs=of_tokens,
        out_shape=shape_of(step.drive.shape, step.drive.dtype),
        compiler_params=triton.CompilerParams(num_warps=max(1, channels // _WARP)),
        interpret=interpret,
        name="gpu_scan",
    )(step.decay, step.drive, h)
    return states


def _kernel(decay: Any, drive: Any, before: Any, states: Any, *, tokens: int) -> None:
    def tile(index: Array, h: Array) -> Array:
        places = [index * tokens + token for token in range(tokens)]
        steps = [(decay[place, :], drive[place, :]) for place in places]
        reached = []
        for kept, added in steps:
            h = kept * h + added
            reached.append(h)
        for place, state in zip(places, reached, strict=True):
            states[place, :] = state
        return h

    lax.fori_loop(0, decay.shape[0] // tokens, tile, before[...])
