"""The temporal convolution: depthwise, causal, a few taps wide, over a tail of past inputs."""

import jax.numpy as jnp
from jax import Array

from rgpipeline.model.shapes import Active, ConvTail, Expanded, Gated, Lengths


def convolve(x: Expanded, tail: ConvTail, kernel: Array, bias: Array) -> Gated:
    """Each output is a weighted sum of its own input and the few before it.

    Args:
        x: Inputs [b t e].
        tail: The inputs before them, oldest first, [b c e]; zeros before the start.
        kernel: [c+1 e]; its last row weighs the present input.
        bias: [e].

    Returns:
        float32 [b t e]; the sum runs from the newest input to the oldest, then the bias, as the
        official library's `layers.Conv1D` does.
    """
    length, taps = x.shape[1], kernel.shape[0]
    inputs = jnp.concatenate([tail, x], axis=1).astype(jnp.float32)
    weights = kernel.astype(jnp.float32)
    total = inputs[:, taps - 1 :] * weights[taps - 1]
    for tap in range(taps - 2, -1, -1):
        total = total + inputs[:, tap : tap + length] * weights[tap]
    return total + bias.astype(jnp.float32)


def tail_after(x: Expanded, tail: ConvTail, lengths: Lengths) -> ConvTail:
    """The tail once the first `lengths` inputs of each row are behind it."""
    inputs = jnp.concatenate([tail, x.astype(tail.dtype)], axis=1)
    rows = lengths[:, None] + jnp.arange(tail.shape[1])
    return jnp.take_along_axis(inputs, rows[..., None], axis=1)


def tail_after_one(x: Expanded, tail: ConvTail, active: Active) -> ConvTail:
    """`tail_after` for one input, [b 1 e], of the rows that are active."""
    shifted = jnp.concatenate([tail[:, 1:], x.astype(tail.dtype)], axis=1)
    return jnp.where(active[:, None, None], shifted, tail)
