"""A recurrent block between its projections: convolution, RG-LRU and the gate of the other branch.

Figure 2 and section 2.4 of arXiv:2402.19427. The RG-LRU is float32, because a decay near 1 has few
digits left in bfloat16: 0.999 would become 1.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from rgpipeline.model.griffin_state import RecurrentState
from rgpipeline.model.layers.array_types import (
    Active,
    ConvTail,
    Expanded,
    Gated,
    Lengths,
    RecurrentH,
    Start,
)
from rgpipeline.model.ops.primitives import block_diagonal

C = 8.0  # the paper's c, in a = sigmoid(Lambda)^(c r)
_MAX_SQRT_GRADIENT = 1000.0  # the official library's bound, in `RGLRU.__call__`


class RecurrentWeights(NamedTuple):
    """A recurrent block's parameters between its projections, as in `params`."""

    conv_kernel: Array
    conv_bias: Array
    gates: Array
    gates_bias: Array
    a_param: Array


class Step(NamedTuple):
    """What each token does to the state, `h = decay * h + drive`; both float32 [b t e]."""

    decay: Gated
    drive: Gated


def forward(projected: Array, weights: RecurrentWeights, starts: Start) -> Gated:
    """Whole sequences from an empty state.

    Args:
        projected: The inputs of both branches, the RG-LRU's first: [b t 2 e].
        weights: The block's.
        starts: Which tokens start a sequence.

    Returns:
        The output projection's input, float32 [b t e].
    """
    x, gate = _branches(projected)
    batch, _, inner = x.shape
    tail = (jnp.zeros((batch, inner), x.dtype),) * (weights.conv_kernel.shape[0] - 1)
    return scan(_step(x, tail, weights, starts), jnp.zeros((batch, inner))) * gate


def prefill(
    projected: Array,
    weights: RecurrentWeights,
    starts: Start,
    lengths: Lengths,
    state: RecurrentState,
    scan: Callable[[Step, RecurrentH], Gated],
) -> tuple[Gated, RecurrentState]:
    """As `forward`, of a chunk that continues `state`; the new state counts `lengths` tokens."""
    x, gate = _branches(projected)
    states = scan(_step(x, state.conv, weights, starts), state.h)
    after = RecurrentState(
        h=state_after(states, state.h, lengths), conv=tail_after(x, state.conv, lengths)
    )
    return states * gate, after


def decode(
    projected: Array,
    weights: RecurrentWeights,
    starts: Start,
    active: Active,
    state: RecurrentState,
) -> tuple[Gated, RecurrentState]:
    """As `forward`, of one token of each row, [b 1 2 e]; rows not active keep their state."""
    x, gate = _branches(projected)
    step = _step(x, state.conv, weights, starts)
    reached, h = state_after_one(step, state.h, active)
    return reached * gate, RecurrentState(h, tail_after_one(x, state.conv, active))


def _branches(projected: Array) -> tuple[Array, Array]:
    """The convolution's input, [b t e], and the other branch's gate, float32 [b t e]."""
    return projected[..., 0, :], jax.nn.gelu(projected[..., 1, :].astype(jnp.float32))


def _step(x: Expanded, tail: ConvTail, weights: RecurrentWeights, starts: Start) -> Step:
    x = convolve(x, tail, weights.conv_kernel, weights.conv_bias)
    gates = block_diagonal(x, weights.gates, weights.gates_bias)
    return gate(x, gates, weights.a_param, starts)


def convolve(x: Expanded, tail: ConvTail, kernel: Array, bias: Array) -> Gated:
    """The temporal convolution: depthwise and causal.

    Args:
        x: Inputs [b t e].
        tail: The inputs before them, oldest first, c of [b e]; zeros before the start.
        kernel: [c+1 e]; its last row weighs the present input.
        bias: [e].

    Returns:
        float32 [b t e]; the sum runs from the newest input to the oldest, then the bias, as the
        official library's `layers.Conv1D` does.
    """
    length, taps = x.shape[1], kernel.shape[0]
    inputs = _joined(tail, x).astype(jnp.float32)
    weights = kernel.astype(jnp.float32)
    total = inputs[:, taps - 1 :] * weights[taps - 1]
    for tap in range(taps - 2, -1, -1):
        total = total + inputs[:, tap : tap + length] * weights[tap]
    return total + bias.astype(jnp.float32)


def tail_after(x: Expanded, tail: ConvTail, lengths: Lengths) -> ConvTail:
    """The tail after the first `lengths` inputs of each row."""
    inputs = _joined(tail, x.astype(tail[0].dtype))
    rows = jnp.arange(x.shape[0])
    return tuple(inputs[rows, lengths + index] for index in range(len(tail)))


def tail_after_one(x: Expanded, tail: ConvTail, active: Active) -> ConvTail:
    """`tail_after` for one input, [b 1 e], of the rows that are active."""
    shifted = (*tail[1:], x[:, 0].astype(tail[0].dtype))
    return tuple(
        jnp.where(active[:, None], new, old) for new, old in zip(shifted, tail, strict=True)
    )


def _joined(tail: ConvTail, x: Expanded) -> Array:
    return jnp.concatenate([*(one[:, None] for one in tail), x], axis=1)


def gate(x: Gated, gates: Array, a_param: Array, starts: Start) -> Step:
    """The steps of the recurrence, from inputs and gates.

    Args:
        x: The convolution's output, float32 [b t e].
        gates: The input gate and the recurrence gate before their sigmoids, float32 [2 b t e].
        a_param: The decay's parameter, float32 [e].
        starts: Where a sequence starts: the state before it is dropped, and its first input is
            not scaled.
    """
    input_gate, decay_gate = jax.nn.sigmoid(gates)
    log_decay = -C * decay_gate * jax.nn.softplus(a_param.astype(jnp.float32))
    first = starts[..., None]
    keep_variance = jnp.where(first, 1.0, _bounded_sqrt(1.0 - jnp.exp(2.0 * log_decay)))
    decay = jnp.where(first, 0.0, jnp.exp(log_decay))
    return Step(decay, x * input_gate * keep_variance)


def scan(step: Step, h: RecurrentH) -> Gated:
    """All states after `h`, float32 [b t e].

    One token after another, so that any division of a sequence into chunks gives the same bits.
    On a CPU this is faster than an associative scan or an unrolled loop, forwards (4 ms against
    7 and 7 for [16 512 256]) and with gradients (19 against 51 and 28).
    """

    def one(h: Array, step: Step) -> tuple[Array, Array]:
        h = step.decay * h + step.drive
        return h, h

    by_time = Step(step.decay.swapaxes(0, 1), step.drive.swapaxes(0, 1))
    _, states = lax.scan(one, h, by_time)
    return states.swapaxes(0, 1)


def state_after(states: Gated, h: RecurrentH, lengths: Lengths) -> RecurrentH:
    """The state after the first `lengths` tokens of each row; `h` where there are none."""
    last = jnp.maximum(lengths - 1, 0)[:, None, None]
    reached = jnp.take_along_axis(states, last, axis=1)[:, 0]
    return jnp.where((lengths > 0)[:, None], reached, h)


def state_after_one(step: Step, h: RecurrentH, active: Active) -> tuple[Gated, RecurrentH]:
    """One token, [b 1 e]: its state, and each row's next state (rows not active keep theirs)."""
    reached = step.decay[:, 0] * h + step.drive[:, 0]
    return reached[:, None], jnp.where(active[:, None], reached, h)


@jax.custom_jvp
def _bounded_sqrt(x: Array) -> Array:
    """A square root whose derivative stays finite at 0, as training needs."""
    return jnp.sqrt(x)


@_bounded_sqrt.defjvp
def _bounded_sqrt_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    floor = 1.0 / (4.0 * _MAX_SQRT_GRADIENT**2)
    return jnp.sqrt(x), dx * 0.5 * lax.rsqrt(jnp.maximum(x, floor))
