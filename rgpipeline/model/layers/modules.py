"""The small modules that own parameters: linear layers, norms, embeddings, the head."""

import math

import jax.numpy as jnp
import ml_dtypes
import numpy as np
from flax import linen as nn
from jax import Array, lax
from jax.typing import DTypeLike

from rgpipeline.model import quantize
from rgpipeline.model.collectives import ALONE, Chips
from rgpipeline.model.layers.array_types import Activations, Gated, Logits, Tokens
from rgpipeline.model.ops import primitives
from rgpipeline.model.platforms import Kernels

_NORM_EPSILON = 1e-6


def param(
    module: nn.Module, name: str, init: nn.initializers.Initializer, shape: tuple[int, ...]
) -> Array:
    """As `module.param`, without its check of the shape of a given parameter.

    For that check it traces `init` for each: a tenth of the time of a worker's start. Shapes are
    checked when weights are opened.
    """
    if module.has_variable("params", name):
        given: Array = module.get_variable("params", name)
        return given
    made: Array = module.param(name, init, shape)
    return made


def _scale(module: nn.Module, name: str) -> Array | None:
    """The scales of a parameter in int8; None for one in floats."""
    name = quantize.scale_path((name,))[-1]
    return module.get_variable("params", name) if module.has_variable("params", name) else None


class Linear(nn.Module):
    """A linear layer to any number of output axes; `kernel` [*o i], `bias` [*o].

    In int8, there is a `kernel_scale` [*o] too.

    Attributes:
        width: Width of the input, i.
        out: The output's axes, o.
        biased: Whether there is a bias.
        split: The chips among which the input is divided; their products are summed.
        kernels: Which Pallas kernels may be used.
    """

    width: int
    out: tuple[int, ...]
    biased: bool = True
    split: Chips = ALONE
    kernels: Kernels = "plain"

    def setup(self) -> None:
        init = nn.initializers.normal(1 / math.sqrt(self.width))
        self.kernel = param(self, "kernel", init, (*self.out, self.width))
        self.kernel_scale = _scale(self, "kernel")
        self.bias = param(self, "bias", nn.initializers.zeros, self.out) if self.biased else None

    def __call__(self, x: Array) -> Array:
        """[... i] to float32 [... *o]."""
        if self.split.model == 1:
            return primitives.linear(x, self.kernel, self.bias, self.kernel_scale, self.kernels)
        product = self.split.psum(
            primitives.linear(x, self.kernel, None, self.kernel_scale, self.kernels)
        )
        return product if self.bias is None else product + self.bias

    def pair(self, x: Array, dtype: DTypeLike) -> tuple[Array, Array]:
        """The two layers of one with outputs (2, o), each [... o] in `dtype`."""
        return primitives.linear_pair(x, *self.weights(), self.kernel_scale, dtype, self.kernels)

    def weights(self) -> tuple[Array, Array]:
        """Kernel and bias of a layer that has both."""
        assert self.bias is not None
        return self.kernel, self.bias


class BlockDiagonal(nn.Module):
    """Several block-diagonal layers of one input; `kernel` [n i g*i], `bias` [g n i].

    Attributes:
        width: Width of the input and of each output, n * i.
        blocks: Diagonal blocks, n.
        count: Layers, g.
    """

    width: int
    blocks: int
    count: int

    def setup(self) -> None:
        size = self.width // self.blocks
        init = nn.initializers.normal(1 / math.sqrt(size))
        self.kernel = param(self, "kernel", init, (self.blocks, size, self.count * size))
        self.bias = param(self, "bias", nn.initializers.zeros, (self.count, self.blocks, size))

    def __call__(self, x: Gated) -> Array:
        """[b t e] to float32 [g b t e]."""
        return primitives.block_diagonal(x, self.kernel, self.bias)


class Norm(nn.Module):
    """RMSNorm with a learnt `scale` [d], stored minus 1."""

    width: int

    @nn.compact
    def __call__(self, x: Activations) -> Activations:
        """[b t d] to float32 [b t d]."""
        scale = param(self, "scale", nn.initializers.zeros, (self.width,))
        return _rms_norm(x, scale)


class Embedder(nn.Module):
    """The first layer, and the last one unless there is a `Head`; `embedding` [v d].

    In int8, there is an `embedding_scale` [v] too.

    Attributes:
        vocab_size: v.
        width: d.
        scaled: Whether embeddings are multiplied by sqrt(d).
        soft_cap: Bound of the logits; 0 for none.
        chips: The chips among which the vocabulary is divided; v is this chip's shard of it.
    """

    vocab_size: int
    width: int
    scaled: bool
    soft_cap: float
    chips: Chips = ALONE

    def setup(self) -> None:
        init = nn.initializers.normal(1 / math.sqrt(self.width))
        self.embedding = param(self, "embedding", init, (self.vocab_size, self.width))
        self.embedding_scale = _scale(self, "embedding")

    def encode(self, tokens: Tokens) -> Activations:
        """int32 [b t] to float32 [b t d]."""
        if self.chips.model == 1:
            return _embed(self.embedding, tokens, self.scaled, self.embedding_scale)
        tokens = tokens - self.chips.axis_index() * self.vocab_size
        mine = (tokens >= 0) & (tokens < self.vocab_size)
        rows = _embed(self.embedding, tokens, self.scaled, self.embedding_scale)
        return self.chips.psum_onehot(jnp.where(mine[..., None], rows, 0.0))

    def logits(self, hidden: Array) -> Logits:
        """[... d] to float32 [... v]."""
        return primitives.logits(self.embedding, hidden, self.soft_cap, self.embedding_scale)


class Head(nn.Module):
    """A last layer with weights of its own; `kernel` [v d].

    In int8, there is a `kernel_scale` [v] too. Of several chips, each has a shard of v.
    """

    vocab_size: int
    width: int
    soft_cap: float

    def setup(self) -> None:
        init = nn.initializers.normal(1 / math.sqrt(self.width))
        self.kernel = param(self, "kernel", init, (self.vocab_size, self.width))
        self.kernel_scale = _scale(self, "kernel")

    def logits(self, hidden: Array) -> Logits:
        """[... d] to float32 [... v]."""
        return primitives.logits(self.kernel, hidden, self.soft_cap, self.kernel_scale)


def _rms_norm(x: Array, scale: Array) -> Array:
    """`x / rms(x) * (1 + scale)` over the last axis, in float32 (Gemma's convention).

    Squares of bfloat16 lose half their digits, hence float32; Gemma's later code does the same.
    """
    x = x.astype(jnp.float32)
    variance = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
    return x * lax.rsqrt(variance + _NORM_EPSILON) * (scale.astype(jnp.float32) + 1)


def _embed(table: Array, tokens: Array, scaled: bool, scale: Array | None = None) -> Array:
    """Rows of `table` [v d] for `tokens` [...], float32 [... d], times sqrt(d) if `scaled`.

    `scale`, float32 [v], is that of a table in int8.

    sqrt(d) is rounded to bfloat16, as it was in training (official `modules.Embedder.encode`).
    """
    rows = jnp.take(table, tokens, axis=0, mode="clip").astype(jnp.float32)
    if scale is not None:
        rows = rows * jnp.take(scale, tokens, mode="clip")[..., None]
    if not scaled:
        return rows
    return rows * np.float32(ml_dtypes.bfloat16(math.sqrt(table.shape[-1])))
