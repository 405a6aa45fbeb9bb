"""The configuration of a Griffin model, and where it comes from."""

import dataclasses
import itertools

from rgpipeline.errors import WeightsError

RECURRENT = "recurrent"
ATTENTION = "attention"
GRIFFIN_CYCLE = (RECURRENT, RECURRENT, ATTENTION)


@dataclasses.dataclass(frozen=True)
class GriffinConfig:
    """Everything that decides the shapes and the arithmetic of one model.

    Attributes:
        vocab_size: Rows of the embedding table and of the head.
        width: Width of the residual stream.
        mlp_width: Width of each of the two branches of the gated MLP.
        heads: Query heads of attention, and diagonal blocks of the RG-LRU's gates.
        kv_heads: Heads of keys and values; each serves as many query heads as the others.
        lru_width: Width of the recurrence.
        block_types: `recurrent` or `attention` for every layer, first to last.
        window: A token attends to itself and to this many tokens before it.
        logits_soft_cap: Logits become `tanh(logits / cap) * cap`; 0 leaves them alone.
        scale_embeddings: Whether embeddings are multiplied by sqrt(width).
        tied: Whether the embedding table is the head, too; else the head has weights of its own.
        conv_width: Taps of the temporal convolution.
        bos_id: Token that starts every text.
        eos_ids: Tokens that end a text.
        pad_id: Token that fills unused positions; it has no effect on the state.
    """

    vocab_size: int
    width: int
    mlp_width: int
    heads: int
    lru_width: int
    block_types: tuple[str, ...]
    window: int = 2048
    logits_soft_cap: float = 30.0
    scale_embeddings: bool = True
    tied: bool = True
    conv_width: int = 4
    bos_id: int = 2
    eos_ids: tuple[int, ...] = (1,)
    pad_id: int = 0
    kv_heads: int = 1

    @property
    def head_dim(self) -> int:
        return self.width // self.heads

    @property
    def depth(self) -> int:
        return len(self.block_types)


def cycle(pattern: tuple[str, ...], depth: int) -> tuple[str, ...]:
    """Repeats `pattern` over `depth` layers; the last repetition may be cut short."""
    return tuple(itertools.islice(itertools.cycle(pattern), depth))


# Source: the presets of the official library (recurrentgemma/common.py).
_KNOWN = {
    "recurrentgemma-2b": GriffinConfig(
        256_000, 2560, 3 * 2560, 10, 2560, cycle(GRIFFIN_CYCLE, 26), window=2048
    ),
    "recurrentgemma-9b": GriffinConfig(
        256_000, 4096, 3 * 4096, 16, 4096, cycle(GRIFFIN_CYCLE, 38), window=2048
    ),
    "griffin-7b": GriffinConfig(
        256_000,
        4096,
        3 * 4096,
        32,
        5632,
        cycle(GRIFFIN_CYCLE, 32),
        window=1024,
        logits_soft_cap=0.0,
        scale_embeddings=False,
    ),
    "hawk-7b": GriffinConfig(
        256_000,
        4096,
        3 * 4096,
        32,
        5632,
        (RECURRENT,) * 32,
        window=1024,
        logits_soft_cap=0.0,
        scale_embeddings=False,
    ),
}


def known_config(name: str) -> GriffinConfig:
    """A configuration by its name.

    Raises:
        WeightsError: No such name; the message lists those there are.
    """
    if name not in _KNOWN:
        raise WeightsError(f"no built-in model '{name}'; known: {', '.join(sorted(_KNOWN))}")
    return _KNOWN[name]


def known_configs() -> tuple[GriffinConfig, ...]:
    """All that `known_config` knows."""
    return tuple(_KNOWN.values())
