"""Several chips: what each of them holds, as one table.

The axes of a mesh:

    data     the slots in parts, with a whole copy of the weights for each
    model    the weights in parts: heads, gate blocks with their channels, the MLP's inner channels,
             the vocabulary

State that has channels is divided by them on the model axis. What has none (the ring of the one
head of keys and values, a row of the vocabulary's settings) is divided by slots there too, so that
no chip holds or reads what another does: with 9B and 256 slots on four chips, rings on every chip
would be 6.4 GB of the 11 that a step reads, and are 1.6 of 6.4 so. The price is two exchanges of
activations in each layer of attention (see `chips`), half a millisecond a step against six.
"""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rgpipeline.errors import UserError
from rgpipeline.model.collectives import CHIPS, DATA, MODEL, Chips
from rgpipeline.model.config import GriffinConfig
from rgpipeline.model.layers.array_types import ParamPath

# Parameters by the end of their path, and the axis that the model axis divides. What is not here
# is on every chip: norms, keys' and values' projection, biases of what is summed over chips.
_PARAMETERS: dict[ParamPath, int] = {
    ("embedder", "embedding"): 0,
    ("lm_head", "kernel"): 0,
    ("temporal", "conv_kernel"): 1,
    ("temporal", "conv_bias"): 0,
    ("temporal", "a_param"): 0,
    ("linear_xy", "kernel"): 1,
    ("linear_xy", "bias"): 1,
    ("gates", "kernel"): 0,
    ("gates", "bias"): 1,
    ("linear_out", "kernel"): 1,
    ("query", "kernel"): 0,
    ("out", "kernel"): 1,
    ("up", "kernel"): 1,
    ("up", "bias"): 1,
    ("down", "kernel"): 1,
}

# Layers whose input is divided: what stands beside their kernels for each output is on every chip.
_SUMMED = {"linear_out", "out", "down"}

# State by the names of its fields. The rest is small, and known to every chip of a group.
_BY_CHANNEL = {"h", "conv"}
_BY_CHIP = {"keys", "values", "scales"}

# Of a chip's memory, what weights may take at most where the parts are for us to choose.
_WEIGHTS_SHARE = 0.4

Tree = Any


def param_spec(path: ParamPath) -> PartitionSpec:
    """How the parameter at `path` is divided; its scales, if it has some, go with it."""
    name = path[-1].removesuffix("_scale")
    axis = _PARAMETERS.get((path[-2], name))
    if axis is None or (name != path[-1] and path[-2] in _SUMMED):
        return _spec()
    return _spec(*[None] * axis, MODEL)


def param_specs(params: Tree) -> Tree:
    """How a tree of parameters is divided."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: param_spec(tuple(key.key for key in path)), params
    )


def state_specs(state: Tree, by_chip: Set[str] = frozenset()) -> Tree:
    """How a tree of state, with the slot as axis 0, is divided.

    `by_chip`: names of fields, beside the model's, whose slots are divided among all chips.
    """

    def spec(path: Any, leaf: Any) -> PartitionSpec:
        # Programs give arrays without elements back undivided: say so at once, or each program
        # would be compiled twice.
        return (
            _spec()
            if getattr(leaf, "size", 1) == 0
            else _state_spec(path, _BY_CHIP | by_chip, slots=True)
        )

    return jax.tree_util.tree_map_with_path(spec, state)


def row_specs(rows: Tree) -> Tree:
    """How the state of one sequence is divided: as in a slot, but for the slots."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: _state_spec(path, _BY_CHIP, slots=False), rows
    )


def map_rows(function: Any, state: Tree, *others: Tree) -> Tree:
    """`function(by_chip, leaf, ...)` of every leaf; `by_chip`: whether its slots are divided among
    all chips of a mesh, and not just among groups."""
    return jax.tree_util.tree_map_with_path(
        lambda path, *leaves: function(_is(path, _BY_CHIP), *leaves), state, *others
    )


def _state_spec(path: Any, by_chip: Set[str], *, slots: bool) -> PartitionSpec:
    if _is(path, by_chip):
        return _spec(CHIPS if slots else None)
    rest = (MODEL,) if _is(path, _BY_CHANNEL) else ()
    return _spec(DATA if slots else None, *rest)


def _is(path: Any, names: Set[str]) -> bool:
    return any(getattr(key, "name", None) in names for key in path)


def shardings(mesh: Mesh, specs: Tree) -> Tree:
    """The specs, for the devices of a mesh."""
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)


def device_put_for(mesh: Mesh) -> Callable[[ParamPath, Any], jax.Array] | None:
    """What puts a parameter, given its path and its host array, to its place on the chips.

    None for a mesh of one: then the default device will do.
    """
    if mesh.size == 1:
        return None

    def put(path: ParamPath, value: Any) -> jax.Array:
        placed: jax.Array = jax.device_put(value, shardings(mesh, param_spec(path)))
        return placed

    return put


def mesh_of(devices: Sequence[Any], chips: Chips) -> Mesh:
    """The first devices as a mesh, those with neighbouring numbers along the model axis."""
    grid = np.array(devices[: chips.count]).reshape(chips.data, chips.model)
    return Mesh(grid, CHIPS)


def chips_for(data: int | str, model: int, available: int, where: str) -> Chips:
    """How chips are divided between the axes.

    Args:
        data: Parts of the slots, or `auto`: as many as `model` leaves chips for.
        model: Parts of the weights.
        available: Chips there are.
        where: What messages call the mesh.

    Raises:
        UserError: There are not so many.
    """
    parts = max(1, available // model) if data == "auto" else int(data)
    chips = Chips(parts, model)
    if chips.count > available:
        raise UserError(
            f"{where}: data {parts} × model {model} is {chips.count} chips; there are {available}"
        )
    if data == "auto" and chips.count < available:
        raise UserError(
            f"{where}.model: {model} does not divide the {available} chips; take one that does, "
            f"or set data"
        )
    return chips


def parts_for(
    config: GriffinConfig, weights_bytes: int, count: int, hbm_bytes: int
) -> tuple[int, int]:
    """How `count` chips of so much memory are best divided: (data, model).

    In as few parts of the weights as leave a chip room for many slots: each further part costs
    collectives, and without slots the reading of the weights is shared by few.
    """
    able = [parts for parts in range(1, count + 1) if not count % parts and divides(config, parts)]
    roomy = [parts for parts in able if weights_bytes / parts <= _WEIGHTS_SHARE * hbm_bytes]
    model = min(roomy, default=max(able))
    return count // model, model


def check_model(config: GriffinConfig, chips: Chips, where: str) -> None:
    """Raises UserError unless the model can be divided among the chips of a group."""
    sizes = _divided(config)
    undivided = [f"{size} {what}" for what, size in sizes.items() if size % chips.model]
    if undivided:
        able = ", ".join(str(parts) for parts in range(1, 17) if divides(config, parts))
        raise UserError(
            f"{where}.model: this model has {' and '.join(undivided)}, which {chips.model} does "
            f"not divide; it can be {able}"
        )


def divides(config: GriffinConfig, parts: int) -> bool:
    """Whether the model can be divided in so many parts."""
    return not any(size % parts for size in _divided(config).values())


def _divided(config: GriffinConfig) -> dict[str, int]:
    return {
        "heads (and gate blocks)": config.heads,
        "channels of the MLP": config.mlp_width,
        "tokens of the vocabulary": config.vocab_size,
    }


def check_slots(slots: int, chips: Chips, where: str) -> None:
    """Raises UserError unless every chip gets as many slots as the others."""
    if slots % chips.count:
        enough = -(-slots // chips.count) * chips.count
        raise UserError(
            f"{where}: {slots} can't be divided among {chips.count} chips (data {chips.data} × "
            f"model {chips.model}); take {enough}"
        )


def share_of(config: GriffinConfig, chips: Chips) -> GriffinConfig:
    """The model as one chip has it: its part of all that the model axis divides."""
    if chips.model == 1:
        return config
    divided = ("vocab_size", "mlp_width", "heads", "lru_width")
    parts = {name: getattr(config, name) // chips.model for name in divided}
    return _Share(**(vars(config) | parts), of=chips.model)


@dataclass(frozen=True)
class _Share(GriffinConfig):
    of: int = 1

    @property
    def head_dim(self) -> int:
        return self.width // (self.heads * self.of)


def _spec(*axes: Any) -> PartitionSpec:
    return PartitionSpec(*axes)  # type: ignore[no-untyped-call]
