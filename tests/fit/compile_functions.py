"""Compiles small functions for a TPU and writes their scheduled HLO into a folder; a script.

    python -m tests.fit.compile_functions FOLDER

In each, the bytes that have to move between HBM and the chip can be told from the shapes.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

TABLE = (262_144, 1024)  # bfloat16, 512 MiB: larger than any VMEM
ROWS = 256
RING = (64, 2048, 1024)  # bfloat16, 256 MiB
STEPS = 4
GRID, BLOCK = 32, (512, 1024)  # float32


def product(table: Array, x: Array) -> Array:
    """All of the table is needed, once."""
    return jnp.einsum("vd,bd->bv", table, x, preferred_element_type=jnp.float32)


def rows(table: Array, index: Array) -> Array:
    """Some rows of the table are needed."""
    return jnp.take(table, index, axis=0, mode="clip")


def updates(ring: Array, new: Array, slot: Array) -> tuple[Array, Array]:
    """Each of several steps puts one row into the ring and reads all of it."""

    def step(ring: Array, place: Array) -> tuple[Array, Array]:
        ring = ring.at[jnp.arange(ring.shape[0]), place].set(new)
        return ring, jnp.max(ring, axis=1)

    return lax.scan(step, ring, slot[None] + jnp.arange(STEPS)[:, None])


def doubled(x: Array) -> Array:
    """A kernel that reads and writes each block of its grid once."""

    def kernel(x_ref: Any, y_ref: Any) -> None:
        y_ref[...] = x_ref[...] * 2

    block = pl.BlockSpec(BLOCK, lambda i: (i, 0))
    return pl.pallas_call(
        kernel, grid=(GRID,), in_specs=[block], out_specs=block, out_shape=x, name="doubled"
    )(x)


Shapes = list[tuple[tuple[int, ...], Any]]
PROGRAMS: dict[str, tuple[Callable[..., Any], Shapes, tuple[int, ...]]] = {
    "product": (product, [(TABLE, jnp.bfloat16), ((8, TABLE[1]), jnp.bfloat16)], ()),
    "rows": (rows, [(TABLE, jnp.bfloat16), ((ROWS,), jnp.int32)], ()),
    "updates": (
        updates,
        [(RING, jnp.bfloat16), ((RING[0], RING[2]), jnp.bfloat16), ((RING[0],), jnp.int32)],
        (0,),
    ),
    "doubled": (doubled, [((GRID * BLOCK[0], BLOCK[1]), jnp.float32)], ()),
}


def main(folder: Path) -> None:
    """Writes NAME.hlo, and NAME.code if libtpu has been asked for the code of kernels."""
    topology = topologies.get_topology_desc(topology_name="v5e:1x1x1", platform="tpu")
    one = NamedSharding(Mesh(np.array(topology.devices), ("chip",)), PartitionSpec())
    for name, (function, shapes, donated) in PROGRAMS.items():
        arguments = [jax.ShapeDtypeStruct(shape, dtype, sharding=one) for shape, dtype in shapes]
        compiled = jax.jit(function, donate_argnums=donated).lower(*arguments).compile()
        (folder / f"{name}.hlo").write_text(compiled.as_text())
        if (folder / "code").is_dir():
            (folder / "code").rename(folder / f"{name}.code")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
