"""A chunk of tokens through a recurrent block: on a TPU all from its input projection to its output
projection, on a GPU the recurrence alone.

A recurrence is sequential, and a single step is far too little work for a TPU. So eight tokens, the
rows of a register, are computed together:

    h[t] = decay[t] * h[t-1] + drive[t]
         = (decay[t] ... decay[8k]) * h[8k-1] + (what the drives since 8k come to)

Both terms in parentheses are computed by three doublings, for all registers at once; only the step
from one register to the next is sequential. Registers begin at multiples of 8 tokens, so any
division of a sequence into chunks of multiples of 8 gives the same bits.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.experimental.pallas import triton

from rgpipeline.model.griffin_state import RecurrentState
from rgpipeline.model.kernels.recurrence import Fused, gating, speed_of
from rgpipeline.model.layers import rglru
from rgpipeline.model.layers.array_types import shape_of
from rgpipeline.model.platforms import Kernels, on_tpu

_MAX_TOKENS = 256  # per grid step
_SUBLANES = 8  # tokens per register
_VMEM_BYTES = 64 << 20
_GPU_CHANNELS = 32  # per program
_GPU_TOKENS = 16  # per tile
_WARP = 32

GpuScan = Callable[[rglru.Step, Array], Array]


def select(kernels: Kernels, length: int, state: RecurrentState, gates: Array) -> Fused | None:
    """`scan` for these shapes; None where they aren't whole memory tiles of a TPU."""
    fits = length % 16 == 0 and gates.shape[1] % 128 == 0 and len(state.conv) < _SUBLANES
    if not on_tpu(kernels) or not fits or state.conv[0].dtype != jnp.bfloat16:
        return None
    return partial(scan, interpret=kernels == "interpret")


def scan(
    both: Array,
    weights: rglru.RecurrentWeights,
    starts: Array,
    lengths: Array,
    state: RecurrentState,
    *,
    interpret: Any = False,
) -> tuple[Array, RecurrentState]:
    """Convolution, gates, recurrence and the other branch's GeLU.

    Args:
        both: The recurrence's input and the gate's, bfloat16 [2 b t e].
        weights: The block's.
        starts: bool [b], the chunk's first token is the first of its sequence.
        lengths: int32 [b]; the tokens of a row that count. A row of length 0 keeps its state.
        state: Before the chunk.
        interpret: As in `pallas_call`.

    Returns:
        bfloat16 [b t e], the output projection's input, and the state after the tokens that count.
    """
    _, batch, length, inner = both.shape
    blocks, size, _ = weights.gates.shape
    taps = len(state.conv)
    tokens = max(n for n in range(16, _MAX_TOKENS + 1, 16) if length % n == 0)
    grid = (blocks, batch, length // tokens)

    def branch(which: int) -> pl.BlockSpec:
        return pl.BlockSpec(
            (None, 1, tokens, size), lambda block, row, tile, *_: (which, row, tile, block)
        )

    def of_block(count: int) -> pl.BlockSpec:
        return pl.BlockSpec((count, size), lambda block, *_: (0, block))

    one_state = pl.BlockSpec((1, 1, size), lambda block, row, *_: (row, 0, block))
    gates = pl.BlockSpec((1, size, 2 * size), lambda block, *_: (block, 0, 0))
    before = [one[:, None] for one in (state.h, *state.conv)]
    out, h, *tail = pl.pallas_call(
        _kernel,
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=grid,
            in_specs=[
                *(branch(0), branch(1)),
                *(of_block(taps + 1), of_block(1), gates, of_block(2), of_block(1)),
                *[one_state] * (taps + 1),
            ],
            out_specs=[
                pl.BlockSpec((1, tokens, size), lambda block, row, tile, *_: (row, tile, block)),
                *[one_state] * (taps + 1),
            ],
            scratch_shapes=[
                pltpu.VMEM((_SUBLANES + tokens, size), jnp.float32),
                pltpu.VMEM((tokens, size), jnp.float32),
                pltpu.VMEM((1, size), jnp.float32),
            ],
        ),
        out_shape=[
            shape_of((batch, length, inner), both.dtype),
            *(shape_of(one.shape, one.dtype) for one in before),
        ],
        compiler_params=pltpu.CompilerParams(vmem_limit_bytes=_VMEM_BYTES),
        interpret=interpret,
        name="recurrence_scan",
    )(
        *(starts.astype(jnp.int32), lengths, both, both),
        *(weights.conv_kernel, weights.conv_bias[None], weights.gates),
        *(weights.gates_bias.reshape(2, inner), weights.a_param[None]),
        *before,
    )
    return out, RecurrentState(h[:, 0], tuple(one[:, 0] for one in tail))


def _kernel(
    starts: Any,
    lengths: Any,
    x: Any,
    y: Any,
    conv_kernel: Any,
    conv_bias: Any,
    gates: Any,
    gates_bias: Any,
    a_param: Any,
    h: Any,
    *refs: Any,
) -> None:
    """`inputs` [8+t e]: the last 8 inputs before the tile, then the tile's."""
    taps = (len(refs) - 5) // 2
    tail, (out, h_after), tail_after = refs[:taps], refs[taps : taps + 2], refs[taps + 2 : -3]
    inputs, states, carry = refs[-3:]
    row, tile = pl.program_id(1), pl.program_id(2)
    tokens = x.shape[1]

    @pl.when(tile == 0)
    def begin() -> None:
        carry[...] = h[0]
        for tap in range(taps):
            inputs[_SUBLANES - taps + tap] = tail[tap][0, 0].astype(jnp.float32)

    @pl.when(tile > 0)
    def go_on() -> None:
        inputs[:_SUBLANES] = inputs[tokens:]

    inputs[_SUBLANES:] = x[0].astype(jnp.float32)
    index = lax.broadcasted_iota(jnp.int32, (tokens, 1), 0) + tile * tokens
    convolved = inputs[_SUBLANES:] * conv_kernel[taps : taps + 1]
    for tap in range(taps - 1, -1, -1):
        first = _SUBLANES - taps + tap
        convolved += inputs[first : first + tokens] * conv_kernel[tap : tap + 1]
    convolved += conv_bias[...]
    first_token = (index == 0) & (starts[row] > 0)
    speed = speed_of(a_param[...])
    decay, drive = gating(convolved, first_token, gates[0], gates_bias[...], speed)
    counts = index < lengths[row]
    _chain(jnp.where(counts, decay, 1.0), jnp.where(counts, drive, 0.0), carry, states)
    out[0] = (states[...] * jax.nn.gelu(y[0].astype(jnp.float32))).astype(out.dtype)

    # Tokens that do not count change nothing, so the last state is the result.
    h_after[0] = jnp.where(lengths[row] > 0, carry[...], h[0])
    position = lax.broadcasted_iota(jnp.int32, inputs.shape, 0) + (tile * tokens - _SUBLANES)
    is_new = (position >= tile * tokens) | ((tile == 0) & (position >= -taps))
    for tap in range(taps):
        here = is_new & (position == lengths[row] - taps + tap)
        found = jnp.sum(jnp.where(here, inputs[...], 0.0), axis=0, keepdims=True)
        before = jnp.where(tile == 0, 0.0, tail_after[tap][0].astype(jnp.float32))
        tail_after[tap][0] = (before + found).astype(tail_after[tap].dtype)


def _chain(decay: Array, drive: Array, carry: Any, states: Any) -> None:
    """All states of a tile into `states`, from and to `carry`."""
    tokens, size = decay.shape
    by_register = (tokens // _SUBLANES, _SUBLANES, size)
    decay, drive = decay.reshape(by_register), drive.reshape(by_register)
    sublane = lax.broadcasted_iota(jnp.int32, (1, _SUBLANES, size), 1)
    for reach in (1, 2, 4):
        earlier = sublane >= reach
        before = jnp.where(earlier, pltpu.roll(drive, reach, axis=1), 0.0)
        drive = drive + decay * before
        decay = decay * jnp.where(earlier, pltpu.roll(decay, reach, axis=1), 1.0)
    h = carry[...]
    for register in range(tokens // _SUBLANES):
        reached = decay[register] * h + drive[register]
        states[register * _SUBLANES : (register + 1) * _SUBLANES] = reached
        h = reached[_SUBLANES - 1 :]
    carry[...] = h


def select_on_gpu(kernels: Kernels) -> GpuScan | None:
    """`scan_on_gpu` for GPUs; else None."""
    return scan_on_gpu if kernels == "gpu" else None


def scan_on_gpu(step: rglru.Step, h: Array, *, interpret: bool = False) -> Array:
    """All states after `h`, float32 [b t e], one token after another: as `rglru.scan`.

    XLA launches three tiny kernels for each token: 4.1 ms for 4 rows of 256 tokens and 2,560
    channels on an H100, where this takes 0.04 ms. A program has a few channels of one row, and
    iterates over the tokens. All tokens of a tile are loaded before the first is needed.

    Args:
        step: What each token does to the state.
        h: The state before, float32 [b e].
        interpret: As in `pallas_call`.
    """
    batch, length, inner = step.decay.shape
    channels = math.gcd(inner, _GPU_CHANNELS)
    of_tokens = pl.BlockSpec((None, length, channels), lambda row, block: (row, 0, block))
    states: Array = pl.pallas_call(
        partial(_gpu_kernel, tokens=math.gcd(length, _GPU_TOKENS)),
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


def _gpu_kernel(decay: Any, drive: Any, before: Any, states: Any, *, tokens: int) -> None:
    def tile(index: Array, h: Array) -> Array:
        indices = [index * tokens + token for token in range(tokens)]
        steps = [(decay[at, :], drive[at, :]) for at in indices]
        reached = []
        for kept, added in steps:
            h = kept * h + added
            reached.append(h)
        for at, state in zip(indices, reached, strict=True):
            states[at, :] = state
        return h

    lax.fori_loop(0, decay.shape[0] // tokens, tile, before[...])
