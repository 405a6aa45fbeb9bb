"""How parameters and state are divided among several chips, as one table.

The axes of a mesh:

    data     divides the slots; each group of chips has a whole copy of the weights
    model    divides the weights: heads, gate blocks with their channels, the MLP's inner channels,
             the vocabulary

On the model axis, state with channels is divided by channel. State without (the ring of the one
head of keys and values, a slot's row of vocabulary settings) is divided by slot there too, so that
no chip holds or reads a copy: with 9B and 256 slots on four chips, rings copied to every chip would
be 6.4 GB of the 11 that a step reads; divided, they are 1.6 of 6.4. The cost is two exchanges of
activations in each attention layer (see `collectives`): half a millisecond a step, against six.
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
from rgpipeline.model.param_tree import ParamPath

# Parameters by the end of their path, and which of their axes the model axis divides. All others
# are on every chip: norms, the projection of keys and values, biases added after a sum over chips.
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

# Layers whose input is divided: their scales, one for each output, are on every chip.
_SUMMED = {"linear_out", "out", "down"}

# State by the names of its fields. The rest is small, and on every chip of a group.
_BY_CHANNEL = {"h", "conv"}
_BY_CHIP = {"keys", "values", "scales"}

Tree = Any


def param_spec(path: ParamPath) -> PartitionSpec:
    """How the parameter at `path` is divided, or the scales of one."""
    name = path[-1].removesuffix("_scale")
    axis = _PARAMETERS.get((path[-2], name))
    if axis is None or (name != path[-1] and path[-2] in _SUMMED):
        return _spec()
    return _spec(*[None] * axis, MODEL)


def param_specs(params: Tree) -> Tree:
    return jax.tree_util.tree_map_with_path(
        lambda path, _: param_spec(tuple(key.key for key in path)), params
    )


def state_specs(state: Tree, by_chip: Set[str] = frozenset()) -> Tree:
    """How a tree of state, with the slot as axis 0, is divided.

    `by_chip`: names of fields, beside the model's, whose slots are divided among all chips.
    """

    def spec(path: Any, leaf: Any) -> PartitionSpec:
        # Programs return arrays without elements undivided. If they were divided before, each
        # program would be compiled twice.
        return (
            _spec()
            if getattr(leaf, "size", 1) == 0
            else _state_spec(path, _BY_CHIP | by_chip, slots=True)
        )

    return jax.tree_util.tree_map_with_path(spec, state)


def row_specs(rows: Tree) -> Tree:
    """How the state of one sequence is divided: as that of a slot, without the axis of slots."""
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
    """A function that puts a parameter, given its path and its host array, on the chips.

    None for a mesh of one chip: the default device is used.
    """
    if mesh.size == 1:
        return None

    def put(path: ParamPath, value: Any) -> jax.Array:
        array: jax.Array = jax.device_put(value, shardings(mesh, param_spec(path)))
        return array

    return put


def mesh_of(devices: Sequence[Any], chips: Chips) -> Mesh:
    """The first devices as a mesh, those with neighbouring numbers along the model axis."""
    grid = np.array(devices[: chips.count]).reshape(chips.data, chips.model)
    return Mesh(grid, CHIPS)


def chips_for(data: int | str, model: int, available: int, where: str) -> Chips:
    """How chips are divided between the axes.

    Args:
        data: Size of the data axis, or `auto`: as large as `available` and `model` allow.
        model: Size of the model axis.
        available: Number of chips.
        where: The mesh's name in messages.

    Raises:
        UserError: There are too few chips, or `auto` would leave some unused.
    """
    size = max(1, available // model) if data == "auto" else int(data)
    chips = Chips(size, model)
    if chips.count > available:
        raise UserError(
            f"{where}: data {size} × model {model} is {chips.count} chips; there are {available}"
        )
    if data == "auto" and chips.count < available:
        raise UserError(
            f"{where}.model: {model} does not divide the {available} chips; take one that does, "
            f"or set data"
        )
    return chips


def check_slots(slots: int, chips: Chips, where: str) -> None:
    """Raises UserError unless every chip gets as many slots as the others."""
    if slots % chips.count:
        enough = -(-slots // chips.count) * chips.count
        raise UserError(
            f"{where}: {slots} can't be divided among {chips.count} chips (data {chips.data} × "
            f"model {chips.model}); take {enough}"
        )


def shard_config(config: GriffinConfig, chips: Chips) -> GriffinConfig:
    """The configuration of one chip's shard of the model."""
    if chips.model == 1:
        return config
    divided = ("vocab_size", "mlp_width", "heads", "lru_width")
    sizes = {name: getattr(config, name) // chips.model for name in divided}
    return _Shard(**(vars(config) | sizes), of=chips.model)


@dataclass(frozen=True)
class _Shard(GriffinConfig):
    of: int = 1

    @property
    def head_dim(self) -> int:
        return self.width // (self.heads * self.of)


def _spec(*axes: Any) -> PartitionSpec:
    return PartitionSpec(*axes)  # type: ignore[no-untyped-call]
