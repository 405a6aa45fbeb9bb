"""The Griffin model: from tokens and a state to hidden values, logits and the next state."""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike

from rgpipeline.model.collectives import ALONE, Chips
from rgpipeline.model.config import GriffinConfig
from rgpipeline.model.griffin_state import GriffinState, Position, advance, at_start, start
from rgpipeline.model.layers import attention
from rgpipeline.model.layers.array_types import Activations, Active, Lengths, Logits, Token, Tokens
from rgpipeline.model.layers.blocks import Chunk, ResidualBlock
from rgpipeline.model.layers.modules import Embedder, Head, Norm
from rgpipeline.model.platforms import Kernels


class Griffin(nn.Module):
    """Griffin, Hawk or RecurrentGemma (arXiv:2402.19427, arXiv:2404.07839).

    Call through `model.apply({"params": params}, ..., method="prefill")` and the like; the
    parameters are a plain nested dict, described in `params.py`.

    Attributes:
        config: Shapes and constants; of one chip's shard, if there are several chips.
        dtype: float32 or bfloat16: what activations are rounded to where they cross memory, and
            the dtype of rings and conv tails. Weights have their own dtype.
        kernels: Which Pallas kernels may be used.
        chips: The chips among which the model is divided. State and tokens are then this chip's,
            as `sharding` says. Hidden values are the same on all chips of a group; logits are of
            this chip's shard of the vocabulary.
    """

    config: GriffinConfig
    dtype: DTypeLike = jnp.float32
    kernels: Kernels = "plain"
    chips: Chips = ALONE

    def setup(self) -> None:
        config = self.config
        self.embedder = Embedder(
            config.vocab_size,
            config.width,
            config.scale_embeddings,
            config.logits_soft_cap,
            self.chips,
        )
        self.blocks = [
            ResidualBlock(config, kind, self.dtype, self.kernels, self.chips)
            for kind in config.block_types
        ]
        self.final_norm = Norm(config.width)
        if not config.tied:
            self.lm_head = Head(config.vocab_size, config.width, config.logits_soft_cap)

    def __call__(self, tokens: Tokens) -> Logits:
        """The same as `forward`; what `init` and `jax.eval_shape` use."""
        return self.forward(tokens)

    def forward(self, tokens: Tokens) -> Logits:
        """Logits at every position of whole sequences, int32 [b t] to float32 [b t v].

        For training and for tests; it can be differentiated, and keeps no state.
        """
        batch, length = tokens.shape
        chunk = self._chunk(start(batch), length)
        x = self.embedder.encode(tokens)
        for block in self.blocks:
            x = block.forward(x, chunk)
        return self.logits(self.final_norm(x))

    def prefill(
        self, tokens: Tokens, lengths: Lengths, state: GriffinState
    ) -> tuple[Activations, GriffinState]:
        """Reads one chunk of each row's tokens, continuing from `state`.

        Args:
            tokens: int32 [b t]; t may be shorter or longer than the window.
            lengths: int32 [b]; only the first `lengths[i]` tokens of row i count. The rest have no
                effect: a row of length 0 keeps its state bit for bit.
            state: The state before the chunk.

        Returns:
            Hidden values after the final norm, float32 [b t d] (meaningless past a row's length),
            and the state after each row's last counted token.
        """
        chunk = self._chunk(state.position, tokens.shape[1])
        x = self.embedder.encode(tokens)
        after = []
        for block, block_state in zip(self.blocks, state.blocks, strict=True):
            x, block_state = block.prefill(x, chunk, lengths, block_state)
            after.append(block_state)
        position = advance(state.position, lengths, self.config.window)
        return self.final_norm(x), GriffinState(position, tuple(after))

    def decode(
        self, tokens: Token, active: Active, state: GriffinState
    ) -> tuple[Array, GriffinState]:
        """Reads one token of each row.

        Args:
            tokens: int32 [b].
            active: bool [b]; the state of other rows stays as it is, bit for bit.
            state: The state before the token; donate it, and rings are updated in place.

        Returns:
            Hidden values after the final norm, float32 [b d], and the next state.
        """
        chunk = self._chunk(state.position, 1)
        x = self.embedder.encode(tokens[:, None])
        after = []
        for block, block_state in zip(self.blocks, state.blocks, strict=True):
            x, block_state = block.decode(x, chunk, active, block_state)
            after.append(block_state)
        position = advance(state.position, active.astype(jnp.int32), self.config.window)
        return self.final_norm(x)[:, 0], GriffinState(position, tuple(after))

    def logits(self, hidden: Array) -> Logits:
        """Scores of every next token from hidden values [... d], float32 [... v]."""
        return (self.embedder if self.config.tied else self.lm_head).logits(hidden)

    def _chunk(self, position: Position, length: int) -> Chunk:
        first = jnp.arange(length) == 0
        return Chunk(
            position=position,
            angles=attention.angles(position, length, self.config.head_dim),
            starts=at_start(position)[:, None] & first,
        )
