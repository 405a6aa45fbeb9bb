"""The channels' half of a residual block."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax
from jax.typing import DTypeLike

from rgpipeline.model import features_first
from rgpipeline.model.chips import ALONE, Chips
from rgpipeline.model.config import GriffinConfig
from rgpipeline.model.kernels import Kernels, on_tpu
from rgpipeline.model.modules import Linear
from rgpipeline.model.shapes import Activations


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
        few = features_first.pays(x.shape[0] * x.shape[1])
        if self.chips.model > 1 or self.up.kernel_scale is not None or not few:
            return self._rows_first(x)
        weights = (self.up.kernel, self.up.bias, self.down.kernel, self.down.bias)
        chosen: Array = lax.platform_dependent(
            x, *weights, cpu=self._features_first, default=lambda x, *_: self._rows_first(x)
        )
        return chosen

    def _rows_first(self, x: Activations) -> Activations:
        gate, value = self._branches(x)
        return self.down(jax.nn.gelu(gate.astype(jnp.float32)) * value)

    def _branches(self, x: Activations) -> tuple[Array, Array]:
        """Both branches, [b t m] in `dtype`."""
        if not on_tpu(self.kernels) or self.up.kernel_scale is None:
            both = self.up(x).astype(self.dtype)
            return both[..., 0, :], both[..., 1, :]
        # By a TPU's compiler, two products of int8 take little more than half the time of one that
        # is twice as wide: prompts are read a quarter faster. In bfloat16 it makes no difference.
        gate, value = (self.up.branch(x, which).astype(self.dtype) for which in range(2))
        return gate, value

    def _features_first(
        self, x: Activations, up: Array, up_bias: Array, down: Array, down_bias: Array
    ) -> Activations:
        width = self.config.width
        weights = (up.reshape(-1, width), up_bias.reshape(-1), down, down_bias)
        rows = x.reshape(-1, width)
        return features_first.gated_mlp(rows, *weights, dtype=self.dtype).reshape(x.shape)
