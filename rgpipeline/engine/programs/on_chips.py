"""A worker's programs and arrays on its chips: one, or a mesh of several."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec

from rgpipeline.engine import slot_state
from rgpipeline.engine.programs import forward, score_head
from rgpipeline.engine.slot_fields import BY_CHIP, SamplingFeatures
from rgpipeline.model import sharding
from rgpipeline.model.collectives import ALONE, DATA, Chips
from rgpipeline.model.layers.griffin import Griffin

_OPTIONS: dict[str, dict[str, int | bool]] = {
    "cpu": {"xla_cpu_prefer_vector_width": 512},
    "gpu": {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False},
}

Tree = Any
Kind = Callable[[Tree], Tree]  # from a tree of arrays to how they are divided

PARAMS: Kind = sharding.param_specs
STATE: Kind = partial(sharding.state_specs, by_chip=BY_CHIP)
ROWS: Kind = sharding.row_specs


def by_slot(_: Tree) -> PartitionSpec:
    """Arrays with the slot, or the row of a pack, as axis 0."""
    return PartitionSpec(DATA)  # type: ignore[no-untyped-call]


def by_step(_: Tree) -> PartitionSpec:
    """Arrays with the slot as axis 1."""
    return PartitionSpec(None, DATA)  # type: ignore[no-untyped-call]


def everywhere(_: Tree) -> PartitionSpec:
    """Arrays that are the same on all chips."""
    return PartitionSpec()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class OnChips:
    """Where things are. Without a mesh: on the one device that jax takes by itself."""

    chips: Chips = ALONE
    mesh: Mesh | None = None
    platform: str = field(default_factory=jax.default_backend)  # `cpu`, `gpu` or `tpu`

    @classmethod
    def of(cls, mesh: Mesh | None) -> "OnChips":
        """For a mesh of `sharding.mesh_of`; one of a single chip is as good as none."""
        if mesh is None:
            return cls()
        platform: str = mesh.devices.flat[0].platform
        if mesh.size == 1:
            return cls(platform=platform)
        return cls(Chips(*mesh.devices.shape), mesh, platform)

    def jit(
        self,
        program: Callable[..., Any],
        given: tuple[Kind, ...],
        made: Callable[..., Any],
        donated: tuple[int, ...] = (),
    ) -> Any:
        """A program, compiled to run on every chip over its own parts.

        Args:
          program: of arrays as one chip has them.
          given: what its arguments are.
          made: how its results are divided, from how its arguments are.
          donated: arguments that it may overwrite.
        """
        options = compiler_options(self.platform)
        compiled = partial(jax.jit, donate_argnums=donated, compiler_options=options)
        if self.mesh is None:
            return compiled(program)
        mesh = self.mesh

        def spread(*arguments: Tree) -> Tree:
            specs = tuple(kind(tree) for kind, tree in zip(given, arguments, strict=True))
            return self.chips.shard_map(program, mesh, specs, made(*specs))(*arguments)

        spread.__name__ = _name(program)
        return compiled(spread)

    def make(self, make: Callable[[], Tree], kind: Kind = STATE) -> Tree:
        """The arrays that `make` makes, each chip its parts."""
        return self.maker(make, kind)()

    def maker(self, make: Callable[[], Tree], kind: Kind = STATE) -> Callable[[], Tree]:
        """As `make`, to be called again and again: it is compiled once."""
        if self.mesh is None:
            return jax.jit(make)
        specs = kind(jax.eval_shape(make))
        return jax.jit(make, out_shardings=sharding.shardings(self.mesh, specs))

    def put(self, tree: Tree, kind: Kind) -> Tree:
        """Arrays of the host, each chip its parts."""
        if self.mesh is None:
            return jax.tree.map(jax.numpy.asarray, tree)
        return jax.device_put(tree, sharding.shardings(self.mesh, kind(tree)))


def compiler_options(platform: str) -> dict[str, int | bool] | None:
    """What XLA is told when it compiles for a platform.

    On a GPU it would time several kernels for each product and take the quickest: two processes
    came to different ones, and so to different last bits of the same rows. Untimed, Triton's
    products are slow, and cuBLAS's are within a tenth of the quickest (RecurrentGemma-2B, H100).

    For a CPU it would keep to vectors of 256 bits, which spare the clock of old ones; but products
    use 512 wherever there are so many, so the clock is what it is then, and the rest may, too.
    """
    return _OPTIONS.get(platform)


def _name(program: Callable[..., Any]) -> str:
    """What a program is called in what the compiler writes."""
    return _name(program.func) if isinstance(program, partial) else program.__name__


class Jitted:
    """The functions of `programs` and `moves`; each takes what follows the model or the chips.

    A state that is given to one that changes it is given up.
    """

    def __init__(self, model: Griffin, on: OnChips, steps: int, any_number: bool) -> None:
        """`steps` in a decode block; at most, if it may have any number of them."""
        self._model = model
        self._on = on
        self._steps = steps
        self._given = (PARAMS, STATE, everywhere) if any_number else (PARAMS, STATE)
        self._decode: dict[SamplingFeatures, Callable[..., Any]] = {}
        changes = partial(on.jit, made=_state_first)
        self.prefill = on.jit(
            partial(forward.prefill, model),
            (PARAMS, STATE, by_slot, by_slot, by_slot, by_slot),
            lambda params, buffer, *_: buffer,
            donated=(1,),
        )
        self.score = on.jit(
            partial(forward.score, model),
            (PARAMS, STATE, by_slot, by_slot, by_slot, by_slot),
            lambda params, buffer, *others: (buffer, others[0]),
            donated=(1,),
        )
        self.log_probabilities = on.jit(
            partial(score_head.log_probabilities, model),
            (PARAMS, by_slot, by_slot, by_slot),
            lambda params, *others: others[0],
        )
        self.assign = changes(slot_state.assign, (STATE, by_slot, by_slot), donated=(0,))
        self.assign_row = changes(
            partial(slot_state.assign_row, on.chips),
            (STATE, everywhere, everywhere),
            donated=(0,),
        )
        self.insert = changes(
            partial(slot_state.insert, on.chips),
            (STATE, everywhere, STATE, everywhere),
            donated=(0,),
        )
        self.restore = changes(
            partial(slot_state.restore, on.chips), (STATE, everywhere, ROWS), donated=(0,)
        )
        self.write_row = changes(
            partial(slot_state.write_row, on.chips), (STATE, everywhere, ROWS), donated=(0,)
        )
        self.copy_row = on.jit(
            partial(slot_state.copy_row, on.chips),
            (STATE, everywhere),
            lambda states, _: ROWS(states),
        )

    def decode(self, features: SamplingFeatures) -> Callable[..., Any]:
        """The decode block (params, state) -> (state, steps) for these features.

        One that may have any number of steps takes the number as a third argument.
        """
        if features not in self._decode:
            program = partial(forward.decode, self._model, max_steps=self._steps, features=features)
            self._decode[features] = self._on.jit(
                program,
                self._given,
                lambda _, state, *__: (state, by_step(None)),
                donated=(1,),
            )
        return self._decode[features]

    def often(self, features: SamplingFeatures) -> Mapping[str, Any]:
        """What a job of these features calls again and again."""
        return {
            "decode": self.decode(features),
            "prefill": self.prefill,
            "insert": self.insert,
            "assign": self.assign,
        }


def _state_first(state: Any, *_: Any) -> Any:
    return state
