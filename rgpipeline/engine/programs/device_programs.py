"""A worker's programs and arrays on its devices: one chip, or a mesh of several."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, cast

import jax
from jax.sharding import Mesh, PartitionSpec

from rgpipeline.engine import slot_state
from rgpipeline.engine.programs import forward, masked_step, score_head
from rgpipeline.engine.slot_fields import BY_CHIP, SamplingFeatures
from rgpipeline.engine.slot_state import SlotState
from rgpipeline.model import sharding
from rgpipeline.model.collectives import ALONE, DATA, Chips
from rgpipeline.model.griffin_state import GriffinState
from rgpipeline.model.layers.griffin import Griffin

_OPTIONS: dict[str, dict[str, int | bool]] = {
    "cpu": {"xla_cpu_prefer_vector_width": 512},
    "gpu": {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False},
}

Tree = Any
Made = TypeVar("Made")
ToBuffer = Callable[..., GriffinState]
ToState = Callable[..., SlotState]
Specs = Callable[[Tree], Tree]  # from a tree of arrays to its PartitionSpecs

PARAMS: Specs = sharding.param_specs
STATE: Specs = partial(sharding.state_specs, by_chip=BY_CHIP)
ROWS: Specs = sharding.row_specs


def by_slot(_: Tree) -> PartitionSpec:
    """For arrays with the slot, or the row of a pack, as axis 0."""
    return PartitionSpec(DATA)  # type: ignore[no-untyped-call]


def by_step(_: Tree) -> PartitionSpec:
    """For arrays with the slot as axis 1."""
    return PartitionSpec(None, DATA)  # type: ignore[no-untyped-call]


def everywhere(_: Tree) -> PartitionSpec:
    """For arrays that are the same on all chips."""
    return PartitionSpec()  # type: ignore[no-untyped-call]


def made_specs(with_head: bool) -> Specs:
    """For what `masked_step.forward` makes."""
    return by_step if with_head else by_slot


@dataclass(frozen=True)
class Devices:
    """The chips of a worker. Without a mesh: the one device that is jax's default."""

    chips: Chips = ALONE
    mesh: Mesh | None = None
    platform: str = field(default_factory=jax.default_backend)  # `cpu`, `gpu` or `tpu`

    @classmethod
    def of(cls, mesh: Mesh | None) -> "Devices":
        """For a mesh of `sharding.mesh_of`; a mesh of one chip counts as none."""
        if mesh is None:
            return cls()
        platform: str = mesh.devices.flat[0].platform
        if mesh.size == 1:
            return cls(platform=platform)
        return cls(Chips(*mesh.devices.shape), mesh, platform)

    def jit(
        self,
        program: Callable[..., Any],
        in_specs: tuple[Specs, ...],
        out_specs: Callable[..., Any],
        donated: tuple[int, ...] = (),
    ) -> Any:
        """A program, compiled to run on every chip over its own parts.

        Args:
          program: of arrays as one chip has them.
          in_specs: of its arguments.
          out_specs: from the arguments' specs to those of the results.
          donated: arguments that it may overwrite.
        """
        options = compiler_options(self.platform)
        compiled = partial(jax.jit, donate_argnums=donated, compiler_options=options)
        if self.mesh is None:
            return compiled(program)
        mesh = self.mesh

        def sharded(*arguments: Tree) -> Tree:
            given = tuple(specs(tree) for specs, tree in zip(in_specs, arguments, strict=True))
            return self.chips.shard_map(program, mesh, given, out_specs(*given))(*arguments)

        sharded.__name__ = _name(program)
        return compiled(sharded)

    def maker(self, make: Callable[[], Made], specs: Specs = STATE) -> Callable[[], Made]:
        """Of the arrays that `make` returns, each chip its parts; it is compiled once."""
        if self.mesh is None:
            return jax.jit(make)
        wanted = specs(jax.eval_shape(make))
        return jax.jit(make, out_shardings=sharding.shardings(self.mesh, wanted))

    def put(self, tree: Made, specs: Specs) -> Made:
        """Arrays of the host, copied to the chips, each chip its parts."""
        if self.mesh is None:
            return cast("Made", jax.tree.map(jax.numpy.asarray, tree))
        copied: Made = jax.device_put(tree, sharding.shardings(self.mesh, specs(tree)))
        return copied


def compiler_options(platform: str) -> dict[str, int | bool] | None:
    """XLA's options for a platform.

    GPU: by default XLA times several kernels for each product and takes the fastest. Two processes
    then took different ones, and the same rows got different last bits. Without timing, Triton's
    products are slow, and cuBLAS's are within a tenth of the fastest (RecurrentGemma-2B, H100).

    CPU: by default XLA keeps to vectors of 256 bits, to keep the clock of old CPUs high. But matrix
    products use 512 bits where the CPU has them, so the clock is low already.
    """
    return _OPTIONS.get(platform)


def _name(program: Callable[..., Any]) -> str:
    """The name that a program has in the compiler's output."""
    return _name(program.func) if isinstance(program, partial) else program.__name__


class DevicePrograms:
    """The functions of `forward`, `score_head` and `slot_state`, compiled at first use.

    The model or the chips are filled in. A state that is passed to a program that changes it must
    not be read again.
    """

    def __init__(self, model: Griffin, devices: Devices, steps: int, any_number: bool) -> None:
        """`steps`: of a decode block; at most, if it may have any number of them."""
        self._model = model
        self._devices = devices
        self._steps = steps
        self._decode_specs = (PARAMS, STATE, everywhere) if any_number else (PARAMS, STATE)
        self._decode: dict[SamplingFeatures, Callable[..., Any]] = {}
        pack = (by_slot, by_slot, by_slot, by_slot)
        self.prefill: ToBuffer = devices.jit(
            partial(forward.prefill, model),
            (PARAMS, STATE, *pack),
            lambda params, buffer, *_: buffer,
            donated=(1,),
        )
        self.read = devices.jit(
            partial(forward.read, model),
            (PARAMS, STATE, *pack),
            lambda params, buffer, *others: (buffer, others[0]),
            donated=(1,),
        )
        self.log_probabilities = devices.jit(
            partial(score_head.log_probabilities, model),
            (PARAMS, by_slot, by_slot, by_slot),
            lambda params, *others: others[0],
        )
        self.sums = devices.jit(score_head.sums, (by_slot, by_slot), lambda hidden, counted: hidden)
        self._with_head = masked_step.head_goes_first(
            devices.platform, model.kernels, devices.chips
        )
        self.made_specs = made_specs(self._with_head)
        self.forward = devices.jit(
            partial(masked_step.forward, model, with_head=self._with_head),
            (PARAMS, STATE, by_slot, by_slot),
            lambda params, states, *_: (states, self.made_specs(None)),
            donated=(1,),
        )
        self._draw: dict[SamplingFeatures, Callable[..., Any]] = {}
        self._add_state_programs()

    def _add_state_programs(self) -> None:
        devices, chips = self._devices, self._devices.chips
        change = partial(devices.jit, out_specs=lambda state, *_: state, donated=(0,))
        row = everywhere
        self.assign: ToState = change(slot_state.assign, (STATE, by_slot, by_slot))
        self.assign_row: ToState = change(
            partial(slot_state.assign_row, chips), (STATE, row, everywhere)
        )
        self.insert: ToState = change(partial(slot_state.insert, chips), (STATE, row, STATE, row))
        self.restore: ToState = change(partial(slot_state.restore, chips), (STATE, row, ROWS))
        self.write_row: ToBuffer = change(partial(slot_state.write_row, chips), (STATE, row, ROWS))
        self.copy_row: ToBuffer = devices.jit(
            partial(slot_state.copy_row, chips), (STATE, row), lambda states, _: ROWS(states)
        )

    def decode(self, features: SamplingFeatures) -> Callable[..., Any]:
        """The decode block (params, state) -> (state, steps) for these features.

        If it may have any number of steps, the number is a third argument.
        """
        if features not in self._decode:
            program = partial(forward.decode, self._model, max_steps=self._steps, features=features)
            self._decode[features] = self._devices.jit(
                program,
                self._decode_specs,
                lambda _, state, *__: (state, by_step(None)),
                donated=(1,),
            )
        return self._decode[features]

    def draw(self, features: SamplingFeatures) -> Callable[..., Any]:
        """The tokens of a step (params, state, made, masks) -> (state, steps)."""
        if features not in self._draw:
            self._draw[features] = self._devices.jit(
                partial(
                    masked_step.draw, self._model, features=features, with_head=self._with_head
                ),
                (PARAMS, STATE, self.made_specs, by_slot),
                lambda _, state, *__: (state, by_step(None)),
                donated=(1,),
            )
        return self._draw[features]

    def frequent(self, features: SamplingFeatures) -> Mapping[str, Any]:
        """The programs that a job with these features calls again and again."""
        return {
            "decode": self.decode(features),
            "prefill": self.prefill,
            "insert": self.insert,
            "assign": self.assign,
            "forward": self.forward,
            "draw": self.draw(features),
        }
