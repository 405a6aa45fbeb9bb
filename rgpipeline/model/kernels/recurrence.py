"""One token through a recurrent block, from its input projection to its output projection.

XLA makes some forty small fusions, which read the state piece by piece and several times. Here
state and activations are read once and written once. A grid step computes one diagonal block of
the gates, and its channels.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from rgpipeline.model.griffin_state import RecurrentState
from rgpipeline.model.layers.array_types import shape_of
from rgpipeline.model.layers.rglru import C, RecurrentWeights
from rgpipeline.model.platforms import Kernels, on_tpu

_MAX_ROWS = 128  # computed together; more would not fit into registers
_VMEM_BYTES = 64 << 20

Fused = Callable[
    [Array, RecurrentWeights, Array, Array, RecurrentState], tuple[Array, RecurrentState]
]


def select(kernels: Kernels, state: RecurrentState, gates: Array) -> Fused | None:
    """`step` for these shapes; None where they aren't whole memory tiles of a TPU."""
    batch = state.h.shape[0]
    fits = batch % 16 == 0 and gates.shape[1] % 128 == 0
    if not on_tpu(kernels) or not fits or state.conv[0].dtype != jnp.bfloat16:
        return None
    return partial(step, interpret=kernels == "interpret")


def step(
    both: Array,
    weights: RecurrentWeights,
    starts: Array,
    active: Array,
    state: RecurrentState,
    *,
    interpret: Any = False,
) -> tuple[Array, RecurrentState]:
    """Convolution, gates, recurrence and the other branch's GeLU.

    Args:
        both: The recurrence's input and the gate's, bfloat16 [2 b e].
        weights: The block's.
        starts: bool [b], the token is the first of its sequence.
        active: bool [b]; the state of other rows stays as it is, bit for bit.
        state: Before the token; if donated, it is updated in place.
        interpret: As in `pallas_call`.

    Returns:
        bfloat16 [b e], the output projection's input, and the next state.
    """
    batch, inner = state.h.shape
    blocks, size, _ = weights.gates.shape
    taps = len(state.conv)
    channels = pl.BlockSpec((batch, size), lambda block: (0, block))
    x, y = (pl.BlockSpec((None, batch, size), partial(_branch, which)) for which in range(2))
    column = pl.BlockSpec((batch, 1), lambda block: (0, 0))

    def row(count: int) -> pl.BlockSpec:
        return pl.BlockSpec((count, size), lambda block: (0, block))

    gates = pl.BlockSpec((1, size, 2 * size), lambda block: (block, 0, 0))
    out, h, *tail = pl.pallas_call(
        _kernel,
        grid=(blocks,),
        in_specs=[
            *(x, y, column, column),
            *(row(taps + 1), row(1), gates, row(2), row(1)),
            *[channels] * (taps + 1),
        ],
        out_specs=[channels] * (taps + 2),
        out_shape=[
            shape_of((batch, inner), both.dtype),
            *(shape_of(one.shape, one.dtype) for one in (state.h, *state.conv)),
        ],
        input_output_aliases={9 + index: 1 + index for index in range(taps + 1)},
        compiler_params=pltpu.CompilerParams(vmem_limit_bytes=_VMEM_BYTES),
        interpret=interpret,
        name="recurrence",
    )(
        *(both, both, starts[:, None].astype(jnp.int32), active[:, None].astype(jnp.int32)),
        *(weights.conv_kernel, weights.conv_bias[None], weights.gates),
        *(weights.gates_bias.reshape(2, inner), weights.a_param[None]),
        *(state.h, *state.conv),
    )
    return out, RecurrentState(h, tuple(tail))


def _branch(which: int, block: Array) -> tuple[int, int, Array]:
    return which, 0, block


def _kernel(
    x: Any,
    y: Any,
    starts: Any,
    active: Any,
    conv_kernel: Any,
    conv_bias: Any,
    gates: Any,
    gates_bias: Any,
    a_param: Any,
    h: Any,
    *refs: Any,
) -> None:
    taps = (len(refs) - 2) // 2
    tail, (out, h_after, *tail_after) = refs[:taps], refs[taps:]
    batch = x.shape[0]
    rows = max(n for n in range(16, _MAX_ROWS + 1, 16) if batch % n == 0)
    speed = speed_of(a_param[...])

    def some_rows(index: Any, _: None) -> None:
        these = pl.ds(pl.multiple_of(index * rows, rows), rows)
        moves, first = active[these] > 0, starts[these] > 0
        inputs = [one[these] for one in (*tail, x)]
        convolved = inputs[-1].astype(jnp.float32) * conv_kernel[taps : taps + 1]
        for tap in range(taps - 1, -1, -1):
            convolved += inputs[tap].astype(jnp.float32) * conv_kernel[tap : tap + 1]
        convolved += conv_bias[...]
        decay, drive = gating(convolved, first, gates[0], gates_bias[...], speed)
        before = h[these]
        reached = decay * before + drive
        gate = jax.nn.gelu(y[these].astype(jnp.float32))
        out[these] = (reached * gate).astype(out.dtype)
        h_after[these] = jnp.where(moves, reached, before)
        for tap in range(taps):
            # In float32: a mask of one column needs 32-bit tiles.
            old, new = (inputs[at].astype(jnp.float32) for at in (tap, tap + 1))
            tail_after[tap][these] = jnp.where(moves, new, old).astype(tail_after[tap].dtype)

    if batch == rows:
        some_rows(0, None)
    else:
        lax.fori_loop(0, batch // rows, some_rows, None)


def speed_of(a_param: Array) -> Array:
    """The log of the decay at an open gate, as in `rglru`: -c softplus(a)."""
    softplus = jnp.maximum(a_param, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(a_param)))
    return -C * softplus


def gating(
    x: Array, first: Array, gates: Array, gates_bias: Array, speed: Array
) -> tuple[Array, Array]:
    """Decay and drive of each token, as in `rglru.gate`.

    Args:
        x: The convolution's output, float32 [t i], of one diagonal block.
        first: bool [t 1], the token is the first of its sequence.
        gates: The block of both gates, [i 2*i].
        gates_bias: float32 [2 i].
        speed: float32 [1 i], of `speed_of`.
    """
    both = jnp.dot(x.astype(gates.dtype), gates, preferred_element_type=jnp.float32)
    input_gate, decay_gate = (
        jax.nn.sigmoid(product + gates_bias[which : which + 1])
        for which, product in enumerate(jnp.split(both, 2, axis=-1))
    )
    log_decay = speed * decay_gate
    keep_variance = jnp.where(first, 1.0, jnp.sqrt(1.0 - jnp.exp(2.0 * log_decay)))
    return jnp.where(first, 0.0, jnp.exp(log_decay)), x * input_gate * keep_variance
