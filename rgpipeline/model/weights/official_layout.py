"""The official Flax library's layout: recipes from its tensors to parameters.

Names are joined with `/`. Matrices are stored as [in out], transposed against ours.
"""

from collections.abc import Iterator, Mapping

from rgpipeline.errors import WeightsError
from rgpipeline.model.config import ATTENTION, RECURRENT, GriffinConfig
from rgpipeline.model.weights.recipes import (
    Recipe,
    concatenated,
    inner_transposed,
    reshaped,
    same,
    stacked,
    then,
    transposed,
)

Shapes = Mapping[str, tuple[int, ...]]


def inferred_config(shapes: Shapes, where: str) -> GriffinConfig:
    """The part of the configuration that follows from the tensors' shapes.

    Window, soft cap and embedding scale don't: they are the dataclass's defaults here. Source:
    `GriffinConfig.from_flax_params_or_variables` of the official library.

    Raises:
        WeightsError: Not the parameters of a Griffin.
    """
    try:
        vocab_size, width = shapes["embedder/input_embedding"]
        mlp_width = shapes["blocks.0/mlp_block/ffw_up/w"][-1]
        kinds = tuple(_kinds(shapes))
        heads, lru_width = _heads(shapes, kinds, width)
    except (KeyError, ValueError) as error:
        reason = f"no tensor {error}" if isinstance(error, KeyError) else str(error)
        present = ", ".join(sorted(shapes)[:4]) or "nothing"
        raise WeightsError(
            f"{where}: not a checkpoint of the official Griffin library: {reason}; "
            f"it holds {present}"
        ) from error
    return GriffinConfig(vocab_size, width, mlp_width, heads, lru_width, kinds)


def differences(config: GriffinConfig, inferred: GriffinConfig) -> list[str]:
    """Where a configuration contradicts the tensors' shapes, one phrase each."""
    names = ("vocab_size", "width", "mlp_width", "heads", "kv_heads", "lru_width", "block_types")
    return [
        f"{name} is {getattr(config, name)!r}, the tensors say {getattr(inferred, name)!r}"
        for name in names
        if getattr(config, name) != getattr(inferred, name)
    ]


def recipes(config: GriffinConfig) -> Iterator[Recipe]:
    """One recipe for each parameter."""
    table = ("embedder/input_embedding", (config.vocab_size, config.width))
    yield Recipe(("embedder", "embedding"), (table,), same)
    yield Recipe(("final_norm", "scale"), (("final_norm/scale", (config.width,)),), same)
    for index, kind in enumerate(config.block_types):
        block, name = f"blocks_{index}", f"blocks.{index}"
        yield from _shared(config, block, name)
        temporal = _recurrent if kind == RECURRENT else _attention
        yield from temporal(config, block, f"{name}/{kind}_block")


def _shared(config: GriffinConfig, block: str, name: str) -> Iterator[Recipe]:
    d, m = config.width, config.mlp_width
    for half in ("temporal", "channel"):
        scale = ((f"{name}/{half}_pre_norm/scale", (d,)),)
        yield Recipe((block, f"{half}_norm", "scale"), scale, same)
    up, down = f"{name}/mlp_block/ffw_up", f"{name}/mlp_block/ffw_down"
    yield Recipe((block, "mlp", "up", "kernel"), ((f"{up}/w", (2, d, m)),), inner_transposed)
    yield Recipe((block, "mlp", "up", "bias"), ((f"{up}/b", (2, 1, 1, m)),), reshaped(2, m))
    yield Recipe((block, "mlp", "down", "kernel"), ((f"{down}/kernel", (m, d)),), transposed)
    yield Recipe((block, "mlp", "down", "bias"), ((f"{down}/bias", (d,)),), same)


def _recurrent(config: GriffinConfig, block: str, name: str) -> Iterator[Recipe]:
    d, e, n = config.width, config.lru_width, config.heads
    at = (block, "temporal")
    both = (f"{name}/linear_x", f"{name}/linear_y")
    kernels = tuple((f"{one}/kernel", (d, e)) for one in both)
    yield Recipe((*at, "linear_xy", "kernel"), kernels, stacked(0, transposed))
    biases = tuple((f"{one}/bias", (e,)) for one in both)
    yield Recipe((*at, "linear_xy", "bias"), biases, stacked(0))
    conv = f"{name}/conv_1d"
    yield Recipe((*at, "conv_kernel"), ((f"{conv}/w", (config.conv_width, e)),), same)
    yield Recipe((*at, "conv_bias"), ((f"{conv}/b", (e,)),), same)
    gates = (f"{name}/rg_lru/input_gate", f"{name}/rg_lru/a_gate")
    gate_kernels = tuple((f"{gate}/w", (n, e // n, e // n)) for gate in gates)
    yield Recipe((*at, "gates", "kernel"), gate_kernels, concatenated)
    gate_biases = tuple((f"{gate}/b", (n, e // n)) for gate in gates)
    yield Recipe((*at, "gates", "bias"), gate_biases, stacked(0))
    yield Recipe((*at, "a_param"), ((f"{name}/rg_lru/a_param", (e,)),), same)
    out = ((f"{name}/linear_out/kernel", (e, d)),)
    yield Recipe((*at, "linear_out", "kernel"), out, transposed)
    yield Recipe((*at, "linear_out", "bias"), ((f"{name}/linear_out/bias", (d,)),), same)


def _attention(config: GriffinConfig, block: str, name: str) -> Iterator[Recipe]:
    d, n, h = config.width, config.heads, config.head_dim
    at = (block, "temporal")
    query = ((f"{name}/proj_q/kernel", (d, d)),)
    yield Recipe((*at, "query", "kernel"), query, then(transposed, reshaped(n, h, d)))
    key_value = ((f"{name}/proj_k/kernel", (d, h)), (f"{name}/proj_v/kernel", (d, h)))
    yield Recipe((*at, "key_value", "kernel"), key_value, stacked(0, transposed))
    out = ((f"{name}/proj_final/kernel", (d, d)),)
    yield Recipe((*at, "out", "kernel"), out, transposed)
    yield Recipe((*at, "out", "bias"), ((f"{name}/proj_final/bias", (d,)),), same)


def _kinds(shapes: Shapes) -> Iterator[str]:
    """The kind of each block, by the names of its tensors; missing ones are reported later."""
    kinds = {
        (name.split("/")[0], kind)
        for name in shapes
        for kind in (RECURRENT, ATTENTION)
        if f"/{kind}_block/" in name
    }
    if not kinds:
        raise KeyError("blocks.0/recurrent_block/…")
    last = max(int(block.removeprefix("blocks.")) for block, _ in kinds)
    for index in range(last + 1):
        yield RECURRENT if (f"blocks.{index}", RECURRENT) in kinds else ATTENTION


def _heads(shapes: Shapes, kinds: tuple[str, ...], width: int) -> tuple[int, int]:
    """Heads and the RG-LRU's width, which a model without recurrent blocks does not use."""
    if RECURRENT in kinds:
        gate = f"blocks.{kinds.index(RECURRENT)}/recurrent_block/rg_lru/a_gate/w"
        blocks, size, _ = shapes[gate]
        return blocks, blocks * size
    keys = f"blocks.{kinds.index(ATTENTION)}/attention_block/proj_k/kernel"
    return width // shapes[keys][1], width
