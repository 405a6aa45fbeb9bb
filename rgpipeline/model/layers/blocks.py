"""Residual blocks: a temporal half (recurrent or attention) and a gated MLP.

Every temporal block has three methods: `forward` (whole sequences from nothing, for training),
`prefill` (a chunk that goes on from a state) and `decode` (one token of each row). The residual
stream is float32 throughout; inner activations are rounded to `dtype`.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array, lax
from jax.typing import DTypeLike

from rgpipeline.model.collectives import ALONE, Chips
from rgpipeline.model.config import RECURRENT, GriffinConfig
from rgpipeline.model.cpu import cpu_primitives
from rgpipeline.model.griffin_state import BlockState, Position, RecurrentState, Rings
from rgpipeline.model.kernels import (
    decode_attention,
    gpu_scan,
    prefill_attention,
    recurrence,
    recurrence_scan,
    ring_copies,
)
from rgpipeline.model.layers import attention, rglru, rings, rope
from rgpipeline.model.layers.array_types import Activations, Active, ConvTail, Lengths, Start
from rgpipeline.model.layers.modules import BlockDiagonal, Linear, Norm, param
from rgpipeline.model.ops import primitives
from rgpipeline.model.platforms import Kernels, on_tpu


class Chunk(NamedTuple):
    """What all blocks need to know of the tokens at hand.

    Attributes:
        position: Where each row is before them.
        angles: RoPE's angles for each of them.
        starts: Which of them start a sequence, bool [b t].
    """

    position: Position
    angles: rope.Angles
    starts: Start


class RecurrentBlock(nn.Module):
    """Convolution and RG-LRU on one branch, a GeLU gate on the other (figure 2 of the paper)."""

    config: GriffinConfig
    dtype: DTypeLike
    kernels: Kernels = "plain"
    chips: Chips = ALONE

    def setup(self) -> None:
        width, inner = self.config.width, self.config.lru_width
        self.linear_xy = Linear(width, (2, inner), kernels=self.kernels)
        self.conv_kernel = param(
            self, "conv_kernel", nn.initializers.normal(0.1), (self.config.conv_width, inner)
        )
        self.conv_bias = param(self, "conv_bias", nn.initializers.zeros, (inner,))
        self.gates = BlockDiagonal(inner, self.config.heads, 2)
        self.a_param = param(self, "a_param", nn.initializers.zeros, (inner,))
        self.linear_out = Linear(inner, (width,), summed=self.chips, kernels=self.kernels)

    def forward(self, x: Activations, chunk: Chunk) -> Activations:
        """Whole sequences from an empty state: [b t d] to float32 [b t d]."""
        x, y = self._branches(x)
        batch, _, inner = x.shape
        tail = (jnp.zeros((batch, inner), x.dtype),) * (self.config.conv_width - 1)
        states = rglru.scan(self._step(x, tail, chunk.starts), jnp.zeros((batch, inner)))
        return self.linear_out(states * y)

    def prefill(
        self, x: Activations, chunk: Chunk, lengths: Lengths, state: RecurrentState
    ) -> tuple[Activations, RecurrentState]:
        """A chunk that goes on from `state`."""
        fused = recurrence_scan.chosen(self.kernels, x.shape[1], state, self.gates.kernel)
        if fused is not None:
            starts = chunk.starts[:, 0]
            out, after = fused(self._both(x), self._weights(), starts, lengths, state)
            return self.linear_out(out), after
        x, y = self._branches(x)
        scan = gpu_scan.chosen(self.kernels) or rglru.scan
        states = scan(self._step(x, state.conv, chunk.starts), state.h)
        after = RecurrentState(
            h=rglru.state_after(states, state.h, lengths),
            conv=rglru.tail_after(x, state.conv, lengths),
        )
        return self.linear_out(states * y), after

    def decode(
        self, x: Activations, chunk: Chunk, active: Active, state: RecurrentState
    ) -> tuple[Activations, RecurrentState]:
        """One token of each row, [b 1 d]."""
        fused = recurrence.chosen(self.kernels, state, self.gates.kernel)
        if fused is not None:
            starts = chunk.starts[:, 0]
            out, after = fused(self._both(x)[:, :, 0], self._weights(), starts, active, state)
            return self.linear_out(out[:, None]), after
        x, y = self._branches(x)
        step = self._step(x, state.conv, chunk.starts)
        reached, h = rglru.state_after_one(step, state.h, active)
        after = RecurrentState(h, rglru.tail_after_one(x, state.conv, active))
        return self.linear_out(reached * y), after

    def _branches(self, x: Activations) -> tuple[Array, Array]:
        """The convolution's input, [b t e] in `dtype`, and the gate, float32 [b t e]."""
        both = self.linear_xy(x).astype(self.dtype)
        return both[..., 0, :], jax.nn.gelu(both[..., 1, :].astype(jnp.float32))

    def _both(self, x: Activations) -> Array:
        """The inputs of both branches, in `dtype`, [2 b t e]: as the product leaves them."""
        return jnp.moveaxis(self.linear_xy(x).astype(self.dtype), 2, 0)

    def _weights(self) -> recurrence.Weights:
        gates = self.gates
        return recurrence.Weights(
            self.conv_kernel, self.conv_bias, gates.kernel, gates.bias, self.a_param
        )

    def _step(self, x: Array, tail: ConvTail, starts: Start) -> rglru.Step:
        x = rglru.convolve(x, tail, self.conv_kernel, self.conv_bias)
        return rglru.gate(x, self.gates(x), self.a_param, starts)


class AttentionBlock(nn.Module):
    """Local multi-query attention: many query heads, one head of keys and values."""

    config: GriffinConfig
    dtype: DTypeLike
    kernels: Kernels = "plain"
    chips: Chips = ALONE

    def setup(self) -> None:
        width, heads, size = self.config.width, self.config.heads, self.config.head_dim
        self.query = Linear(width, (heads, size), biased=False, kernels=self.kernels)
        self.key_value = Linear(width, (2, size), biased=False, kernels=self.kernels)
        self.out = Linear(heads * size, (width,), summed=self.chips, kernels=self.kernels)

    def forward(self, x: Activations, chunk: Chunk) -> Activations:
        """Whole sequences from an empty state: [b t d] to float32 [b t d]."""
        queries, keys, values = self._project(x, chunk)
        own = attention.chunk_source(keys, values, self.config.window)
        return self._out(attention.attend(queries, (own,)))

    def prefill(
        self, x: Activations, chunk: Chunk, lengths: Lengths, state: Rings
    ) -> tuple[Activations, Rings]:
        """A chunk that goes on from `state`."""
        position, lengths = self.chips.local_slice((chunk.position, lengths))
        floats = rings.read(state, self.dtype)
        fused = prefill_attention.chosen(self.kernels, x.shape[1], floats)
        if fused is not None:
            queries = self.chips.all_to_all_slots(self.query(x), 2)
            x, angles = self.chips.local_slice((x, chunk.angles))
            key_value = jnp.moveaxis(self.key_value(x), 2, 0)
            mixed, floats = fused(queries, key_value, angles, floats, position, lengths)
            after = rings.take_over(state, floats, position, lengths)
            return self._out(mixed), after
        queries, keys, values = self._project(x, chunk)
        if on_tpu(
            self.kernels
        ):  # as the kernels have it: decoding may read a ring's rest for others
            keys, values = (ring_copies.numbers(one) for one in (keys, values))
        mixed, after = attention.prefill(queries, keys, values, state, position, lengths)
        return self._out(mixed), after

    def decode(
        self, x: Activations, chunk: Chunk, active: Active, state: Rings
    ) -> tuple[Activations, Rings]:
        """One token of each row, [b 1 d]."""
        projected = self._project(x, chunk)
        decode = decode_attention.chosen(self.kernels, state) or attention.decode
        position, active = self.chips.local_slice((chunk.position, active))
        mixed, after = decode(*projected, state, position, active)
        return self._out(mixed), after

    def _project(self, x: Activations, chunk: Chunk) -> tuple[Array, Array, Array]:
        """Queries [b t n h], keys and values [b t h], in `dtype`, turned by RoPE.

        Of several chips, each has all heads for its own slots: that is where their rings are.
        """
        queries = rope.rotate(self.query(x), chunk.angles).astype(self.dtype)
        queries = self.chips.all_to_all_slots(queries, 2)
        x, angles = self.chips.local_slice((x, chunk.angles))
        key_value = self.key_value(x)
        keys = rope.rotate(key_value[..., 0, :], angles).astype(self.dtype)
        return queries, keys, key_value[..., 1, :].astype(self.dtype)

    def _out(self, mixed: Array) -> Activations:
        if self.chips.model > 1:  # half the bytes between chips; the product rounds so anyway
            mixed = self.chips.all_to_all_parts(mixed.astype(self.dtype), 2)
        return self.out(mixed.reshape(*mixed.shape[:2], -1))


class ResidualBlock(nn.Module):
    """`x + temporal(norm(x))`, then `x + mlp(norm(x))`."""

    config: GriffinConfig
    kind: str
    dtype: DTypeLike
    kernels: Kernels = "plain"
    chips: Chips = ALONE

    def setup(self) -> None:
        temporal = RecurrentBlock if self.kind == RECURRENT else AttentionBlock
        self.temporal_norm = Norm(self.config.width)
        # Any: a checker cannot know that the state's type goes with the block's kind.
        self.temporal: Any = temporal(self.config, self.dtype, self.kernels, self.chips)
        self.channel_norm = Norm(self.config.width)
        self.mlp = Mlp(self.config, self.dtype, self.kernels, self.chips)

    def forward(self, x: Activations, chunk: Chunk) -> Activations:
        """Whole sequences from an empty state."""
        return self._channels(x + self.temporal.forward(self.temporal_norm(x), chunk))

    def prefill(
        self, x: Activations, chunk: Chunk, lengths: Lengths, state: BlockState
    ) -> tuple[Activations, BlockState]:
        """A chunk that goes on from `state`."""
        mixed, after = self.temporal.prefill(self.temporal_norm(x), chunk, lengths, state)
        return self._channels(x + mixed), after

    def decode(
        self, x: Activations, chunk: Chunk, active: Active, state: BlockState
    ) -> tuple[Activations, BlockState]:
        """One token of each row, [b 1 d]."""
        mixed, after = self.temporal.decode(self.temporal_norm(x), chunk, active, state)
        return self._channels(x + mixed), after

    def _channels(self, x: Activations) -> Activations:
        return x + self.mlp(self.channel_norm(x))


class Mlp(nn.Module):
    """A gated MLP: `down(gelu(up[0]) * up[1])`, GeLU in its tanh form."""

    config: GriffinConfig
    dtype: DTypeLike
    kernels: Kernels = "plain"
    chips: Chips = ALONE

    def setup(self) -> None:
        width, inner = self.config.width, self.config.mlp_width
        self.up = Linear(width, (2, inner), kernels=self.kernels)
        self.down = Linear(inner, (width,), summed=self.chips, kernels=self.kernels)

    def __call__(self, x: Activations) -> Activations:
        """[b t d] to float32 [b t d]."""
        few = cpu_primitives.pays(x.shape[0] * x.shape[1])
        if self.chips.model > 1 or self.up.kernel_scale is not None or not few:
            return self._rows_first(x)
        weights = (self.up.kernel, self.up.bias, self.down.kernel, self.down.bias)
        by_features, by_rows = _ways(jnp.dtype(self.dtype))
        chosen: Array = lax.platform_dependent(x, *weights, cpu=by_features, default=by_rows)
        return chosen

    def _rows_first(self, x: Activations) -> Activations:
        gate, value = self._branches(x)
        return self.down(_gated(gate, value))

    def _branches(self, x: Activations) -> tuple[Array, Array]:
        """Both branches, [b t m] in `dtype`."""
        if not on_tpu(self.kernels) or self.up.kernel_scale is None:
            both = self.up(x).astype(self.dtype)
            return both[..., 0, :], both[..., 1, :]
        # By a TPU's compiler, two products of int8 take little more than half the time of one that
        # is twice as wide: prompts are read a quarter faster. In bfloat16 it makes no difference.
        gate, value = (self.up.branch(x, which).astype(self.dtype) for which in range(2))
        return gate, value


@cache
def _ways(dtype: np.dtype[Any]) -> tuple[Callable[..., Array], Callable[..., Array]]:
    """Features first and rows first; the same two for all layers, so that jax traces them once."""
    return partial(_by_features, dtype=dtype), partial(_by_rows, dtype=dtype)


def _by_features(
    x: Array, up: Array, up_bias: Array, down: Array, down_bias: Array, *, dtype: DTypeLike
) -> Array:
    width = x.shape[-1]
    weights = (up.reshape(-1, width), up_bias.reshape(-1), down, down_bias)
    return cpu_primitives.gated_mlp(x.reshape(-1, width), *weights, dtype=dtype).reshape(x.shape)


def _by_rows(
    x: Array, up: Array, up_bias: Array, down: Array, down_bias: Array, *, dtype: DTypeLike
) -> Array:
    both = primitives.linear(x, up, up_bias).astype(dtype)
    return primitives.linear(_gated(both[..., 0, :], both[..., 1, :]), down, down_bias)


def _gated(gate: Array, value: Array) -> Array:
    return jax.nn.gelu(gate.astype(jnp.float32)) * value
