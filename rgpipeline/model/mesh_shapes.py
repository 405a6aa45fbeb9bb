"""Which shapes of mesh (data, model) a model can be divided by. Imports no jax."""

from rgpipeline.errors import UserError
from rgpipeline.model.config import GriffinConfig

# The largest share of a chip's memory for weights, where `mesh_shape_for` chooses the mesh.
_WEIGHTS_SHARE = 0.4


def mesh_shape_for(
    config: GriffinConfig, weights_bytes: int, count: int, hbm_bytes: int
) -> tuple[int, int]:
    """The best mesh (data, model) of `count` chips with `hbm_bytes` of memory each.

    The model axis is as small as leaves each chip room for many slots: a larger one costs
    collectives, and with few slots each step's reading of the weights serves few tokens.
    """
    sizes = [size for size in range(1, count + 1) if not count % size and divides(config, size)]
    roomy = [size for size in sizes if weights_bytes / size <= _WEIGHTS_SHARE * hbm_bytes]
    model = min(roomy, default=max(sizes))
    return count // model, model


def check_model(config: GriffinConfig, model: int, where: str) -> None:
    """Raises UserError unless the model can be divided by a model axis of this size."""
    sizes = _divided(config)
    undivided = [f"{size} {what}" for what, size in sizes.items() if size % model]
    if undivided:
        possible = ", ".join(str(size) for size in range(1, 17) if divides(config, size))
        raise UserError(
            f"{where}.model: this model has {' and '.join(undivided)}, which {model} does "
            f"not divide; it can be {possible}"
        )


def divides(config: GriffinConfig, model: int) -> bool:
    """Whether the model can be divided by a model axis of this size."""
    return not any(size % model for size in _divided(config).values())


def _divided(config: GriffinConfig) -> dict[str, int]:
    return {
        "heads (and gate blocks)": config.heads,
        "channels of the MLP": config.mlp_width,
        "tokens of the vocabulary": config.vocab_size,
    }
