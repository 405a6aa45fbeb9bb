"""The temporal convolution: depthwise, causal, a few taps wide, over a tail of past inputs."""

import jax.numpy as jnp
from jax import Array

from rgpipeline.model.shapes import Active, ConvTail, Expanded, Gated, Lengths


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
