"""Residual blocks: a temporal half (recurrent or attention) and a gated MLP.

Every temporal block has three methods: `forward` (whole sequences from an empty state, for
training), `prefill` (a chunk that continues a state) and `decode` (one token of each row, t = 1).
Each maps activations [b t d] to float32 [b t d]. The residual stream is float32 throughout; inner
activations are rounded to `dtype`.
"""

from typing import Any, NamedTuple, TypeVar

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike

from rgpipeline.model.collectives import ALONE, Chips
from rgpipeline.model.config import RECURRENT, GriffinConfig
from rgpipeline.model.griffin_state import BlockState, Position, RecurrentState, Rings
from rgpipeline.model.layers import attention, kv_heads, rglru
from rgpipeline.model.layers.array_types import Activations, Active, Lengths, Start
from rgpipeline.model.layers.modules import BlockDiagonal, Linear, Norm, param
from rgpipeline.model.ops import primitives, temporal
from rgpipeline.model.platforms import Kernels

Tree = TypeVar("Tree")


class Chunk(NamedTuple):
    """What all blocks need to know of the tokens of a chunk.

    Attributes:
        position: Where each row is before them.
        angles: RoPE's angles of each of them.
        starts: Which of them start a sequence, bool [b t].
    """

    position: Position
    angles: attention.Angles
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
        self.linear_out = Linear(inner, (width,), split=self.chips, kernels=self.kernels)

    def forward(self, x: Activations, chunk: Chunk) -> Activations:
        mixed = rglru.forward(self._project(x), self._weights(), chunk.starts)
        return self.linear_out(mixed)

    def prefill(
        self, x: Activations, chunk: Chunk, lengths: Lengths, state: RecurrentState
    ) -> tuple[Activations, RecurrentState]:
        mixed, after = temporal.recurrent_prefill(
            self._project(x), self._weights(), chunk.starts, lengths, state, self.kernels
        )
        return self.linear_out(mixed), after

    def decode(
        self, x: Activations, chunk: Chunk, active: Active, state: RecurrentState
    ) -> tuple[Activations, RecurrentState]:
        mixed, after = temporal.recurrent_decode(
            self._project(x), self._weights(), chunk.starts, active, state, self.kernels
        )
        return self.linear_out(mixed), after

    def _project(self, x: Activations) -> Array:
        """The inputs of both branches, in `dtype`, [b t 2 e]."""
        return self.linear_xy(x).astype(self.dtype)

    def _weights(self) -> rglru.RecurrentWeights:
        gates = self.gates
        return rglru.RecurrentWeights(
            self.conv_kernel, self.conv_bias, gates.kernel, gates.bias, self.a_param
        )


class AttentionBlock(nn.Module):
    """Local multi-query attention: many query heads, one head of keys and values; or several."""

    config: GriffinConfig
    dtype: DTypeLike
    kernels: Kernels = "plain"
    chips: Chips = ALONE

    def setup(self) -> None:
        width, heads, size = self.config.width, self.config.heads, self.config.head_dim
        keys = self.config.kv_heads * size
        self.query = Linear(width, (heads, size), biased=False, kernels=self.kernels)
        self.key_value = Linear(width, (2, keys), biased=False, kernels=self.kernels)
        self.out = Linear(heads * size, (width,), split=self.chips, kernels=self.kernels)

    def forward(self, x: Activations, chunk: Chunk) -> Activations:
        queries, keys, values = self._project(x, chunk)
        own = attention.chunk_source(keys, values, self.config.window)
        return self._out(attention.attend(queries, (own,)))

    def prefill(
        self, x: Activations, chunk: Chunk, lengths: Lengths, state: Rings
    ) -> tuple[Activations, Rings]:
        position, lengths = self._rows((chunk.position, lengths))
        rings = kv_heads.as_rows(state, self.config.kv_heads)
        attend = temporal.attention_prefill(x.shape[1], rings, self.dtype, self.kernels)
        project = self._project_unrotated if attend.applies_rope else self._project
        mixed, after = attend.run(*project(x, chunk), rings, position, lengths)
        return self._out(mixed), kv_heads.of_rows(after, self.config.kv_heads)

    def decode(
        self, x: Activations, chunk: Chunk, active: Active, state: Rings
    ) -> tuple[Activations, Rings]:
        projected = self._project(x, chunk)
        position, active = self._rows((chunk.position, active))
        rings = kv_heads.as_rows(state, self.config.kv_heads)
        mixed, after = temporal.attention_decode(*projected, rings, position, active, self.kernels)
        return self._out(mixed), kv_heads.of_rows(after, self.config.kv_heads)

    def _rows(self, of_slots: Tree) -> Tree:
        """What belongs to a slot, for each row whose attention is computed here (`kv_heads`)."""
        return kv_heads.repeated(self.chips.local_slice(of_slots), self.config.kv_heads)

    def _project(self, x: Activations, chunk: Chunk) -> tuple[Array, Array, Array]:
        """Queries [b t n h], keys and values [b t h], in `dtype`, after RoPE.

        Of several chips, each gets all heads for its own slots, because that is where their rings
        are. Of several heads of keys and values, each is a row (see `kv_heads`).
        """
        queries = attention.rotate(self.query(x), chunk.angles).astype(self.dtype)
        queries = self._with_their_keys(queries)
        key_value, angles = self._key_value(x, chunk)
        keys = attention.rotate(key_value[..., 0, :], angles).astype(self.dtype)
        return queries, keys, key_value[..., 1, :].astype(self.dtype)

    def _project_unrotated(
        self, x: Activations, chunk: Chunk
    ) -> tuple[Array, Array, attention.Angles]:
        """Queries [b t n h], keys and values [2 b t h], float32 before RoPE, and the angles."""
        queries = self._with_their_keys(self.query(x))
        key_value, angles = self._key_value(x, chunk)
        return queries, jnp.moveaxis(key_value, 2, 0), angles

    def _with_their_keys(self, queries: Array) -> Array:
        """Queries [b t n h] where, and as, their keys are."""
        queries = self.chips.all_to_all_slots(queries, 2)
        return kv_heads.split(queries, self.config.kv_heads, 2)

    def _key_value(self, x: Activations, chunk: Chunk) -> tuple[Array, attention.Angles]:
        """Keys and values, float32 [b t 2 h] before RoPE, and the angles."""
        x, angles = self.chips.local_slice((x, chunk.angles))
        heads = self.config.kv_heads
        return kv_heads.split(self.key_value(x), heads, 3), kv_heads.repeated(angles, heads)

    def _out(self, mixed: Array) -> Activations:
        mixed = kv_heads.joined(mixed, self.config.kv_heads, 2)
        if self.chips.model > 1:  # half the bytes between chips; the product rounds anyway
            mixed = self.chips.all_to_all_parts(mixed.astype(self.dtype), 2)
        return self.out(mixed.reshape(*mixed.shape[:2], -1))


class Mlp(nn.Module):
    """A gated MLP: `down(gelu(up[0]) * up[1])`, GeLU in its tanh form."""

    config: GriffinConfig
    dtype: DTypeLike
    kernels: Kernels = "plain"
    chips: Chips = ALONE

    def setup(self) -> None:
        width, inner = self.config.width, self.config.mlp_width
        self.up = Linear(width, (2, inner), kernels=self.kernels)
        self.down = Linear(inner, (width,), split=self.chips, kernels=self.kernels)

    def __call__(self, x: Activations) -> Activations:
        """[b t d] to float32 [b t d]."""
        up, down = self.up, self.down
        if self.chips.model == 1 and up.kernel_scale is None:
            return primitives.gated_mlp(x, *up.weights(), *down.weights(), dtype=self.dtype)
        return down(primitives.gelu_gate(*up.pair(x, self.dtype)))


class ResidualBlock(nn.Module):
    """`x + temporal(norm(x))`, then `x + mlp(norm(x))`."""

    config: GriffinConfig
    kind: str
    dtype: DTypeLike
    kernels: Kernels = "plain"
    chips: Chips = ALONE

    def setup(self) -> None:
        block = RecurrentBlock if self.kind == RECURRENT else AttentionBlock
        self.temporal_norm = Norm(self.config.width)
        # Any: a type checker can't know that the state's type follows from the block's kind.
        self.temporal: Any = block(self.config, self.dtype, self.kernels, self.chips)
        self.channel_norm = Norm(self.config.width)
        self.mlp = Mlp(self.config, self.dtype, self.kernels, self.chips)

    def forward(self, x: Activations, chunk: Chunk) -> Activations:
        return self._channels(x + self.temporal.forward(self.temporal_norm(x), chunk))

    def prefill(
        self, x: Activations, chunk: Chunk, lengths: Lengths, state: BlockState
    ) -> tuple[Activations, BlockState]:
        mixed, after = self.temporal.prefill(self.temporal_norm(x), chunk, lengths, state)
        return self._channels(x + mixed), after

    def decode(
        self, x: Activations, chunk: Chunk, active: Active, state: BlockState
    ) -> tuple[Activations, BlockState]:
        mixed, after = self.temporal.decode(self.temporal_norm(x), chunk, active, state)
        return self._channels(x + mixed), after

    def _channels(self, x: Activations) -> Activations:
        return x + self.mlp(self.channel_norm(x))
