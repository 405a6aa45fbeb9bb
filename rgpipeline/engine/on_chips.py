"""A worker's programs and arrays on its chips: one, or a mesh of several."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec

from rgpipeline.model import sharding
from rgpipeline.model.collectives import ALONE, DATA, Chips

_OPTIONS: dict[str, dict[str, int | bool]] = {
    "cpu": {"xla_cpu_prefer_vector_width": 512},
    "gpu": {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False},
}

Tree = Any
Kind = Callable[[Tree], Tree]  # from a tree of arrays to how they are divided

PARAMS: Kind = sharding.param_specs
STATE: Kind = sharding.state_specs
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
            return self.chips.spread(program, mesh, specs, made(*specs))(*arguments)

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
