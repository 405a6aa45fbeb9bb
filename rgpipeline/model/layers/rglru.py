"""The Real-Gated Linear Recurrent Unit (section 2.4 of arXiv:2402.19427), in float32.

Float32 because a decay near 1 has few digits left in bfloat16: 0.999 would become 1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from rgpipeline.model.layers.array_types import (
    Active,
    ConvTail,
    Expanded,
    Gated,
    Lengths,
    RecurrentH,
    Start,
)

_C = 8.0  # the paper's c, in a = sigmoid(Lambda)^(c r)
_MAX_SQRT_GRADIENT = 1000.0  # the official library's bound, in `RGLRU.__call__`


class Step(NamedTuple):
    """What each token does to the state, `h = decay * h + drive`; both float32 [b t e]."""

    decay: Gated
    drive: Gated


def gate(x: Gated, gates: Array, a_param: Array, starts: Start) -> Step:
    """Turns inputs and gates into the steps of the recurrence.

    Args:
        x: The convolution's output, float32 [b t e].
        gates: The input gate and the decay's gate before their sigmoids, float32 [2 b t e].
        a_param: The decay's parameter, float32 [e].
        starts: Where a sequence starts: the state before it is dropped, and its first input is
            taken whole.
    """
    input_gate, decay_gate = jax.nn.sigmoid(gates)
    log_decay = -_C * decay_gate * jax.nn.softplus(a_param.astype(jnp.float32))
    first = starts[..., None]
    keep_variance = jnp.where(first, 1.0, _bounded_sqrt(1.0 - jnp.exp(2.0 * log_decay)))
    decay = jnp.where(first, 0.0, jnp.exp(log_decay))
    return Step(decay, x * input_gate * keep_variance)


def scan(step: Step, h: RecurrentH) -> Gated:
    """Every state from `h` on, float32 [b t e].

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
    """The state once the first `lengths` tokens of each row are behind it."""
    last = jnp.maximum(lengths - 1, 0)[:, None, None]
    reached = jnp.take_along_axis(states, last, axis=1)[:, 0]
    return jnp.where((lengths > 0)[:, None], reached, h)


def state_after_one(step: Step, h: RecurrentH, active: Active) -> tuple[Gated, RecurrentH]:
    """One token, [b 1 e]: its state, and the next state of each row (active rows only move)."""
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


def convolve(x: Expanded, tail: ConvTail, kernel: Array, bias: Array) -> Gated:
    """Each output is a weighted sum of its own input and the few before it.

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
    """The tail once the first `lengths` inputs of each row are behind it."""
    inputs = _joined(tail, x.astype(tail[0].dtype))
    rows = jnp.arange(x.shape[0])
    return tuple(inputs[rows, lengths + place] for place in range(len(tail)))


def tail_after_one(x: Expanded, tail: ConvTail, active: Active) -> ConvTail:
    """`tail_after` for one input, [b 1 e], of the rows that are active."""
    shifted = (*tail[1:], x[:, 0].astype(tail[0].dtype))
    return tuple(
        jnp.where(active[:, None], new, old) for new, old in zip(shifted, tail, strict=True)
    )


def _joined(tail: ConvTail, x: Expanded) -> Array:
    return jnp.concatenate([*(one[:, None] for one in tail), x], axis=1)
