"""The official library's decode step, estimated as `rgpipeline fit` estimates ours.

    python -m bench.tpu_official [--slots 64 256 384] [--topology v5e:1x1x1] [--greedy]

Compiles `recurrentgemma.jax.Sampler`'s own step for RecurrentGemma-2B in bfloat16, with the state
donated, and prints one line of JSON for each number of slots.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rgpipeline.fit.compilation import compiler_environment
from rgpipeline.fit.hlo import parse
from rgpipeline.fit.kernel_code import kernel_files, read_kernel
from rgpipeline.fit.program_cost import program_cost
from rgpipeline.fit.topology import chip_of

_STEPS = 256  # tokens of the buffer that the sampler fills


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slots", type=int, nargs="+", default=[64, 256, 384])
    parser.add_argument("--topology", default="v5e:1x1x1")
    parser.add_argument("--greedy", action="store_true")
    parser.add_argument("--compile-to", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.compile_to is not None:
        _compile(options.topology, options.slots[0], options.greedy, options.compile_to)
        return
    for slots in options.slots:
        print(json.dumps(measured(options.topology, slots, options.greedy)), flush=True)


def measured(topology: str, slots: int, greedy: bool) -> dict[str, Any]:
    """Compiles one step in a process of its own and computes its cost."""
    with tempfile.TemporaryDirectory() as path_name:
        folder = Path(path_name)
        command = [sys.executable, "-m", "bench.tpu_official", "--topology", topology]
        command += ["--slots", str(slots), "--compile-to", path_name, *["--greedy"] * greedy]
        subprocess.run(command, env=compiler_environment(folder), check=True, capture_output=True)
        memory = json.loads((folder / "memory.json").read_text())
        files = kernel_files(folder / "code")
        kernels = {name: read_kernel(path.read_text()) for name, path in files.items()}
        cost = program_cost(parse((folder / "step.hlo").read_text()), kernels)
    chip = chip_of(topology)
    hbm_s, compute_s = cost.traffic.total / chip.hbm_bytes_per_s, cost.cycles / chip.clock_hz
    return {
        "topology": topology,
        "slots": slots,
        "sampling": "greedy" if greedy else "categorical",
        "hbm_bytes_per_step": cost.traffic.total,
        "minimum_hbm_bytes_per_step": memory["minimum_bytes"],
        "temporary_bytes": memory["temporary_bytes"],
        "compiler_cycles_per_step": cost.cycles,
        "hbm_ms": round(hbm_s * 1e3, 2),
        "cycles_ms": round(compute_s * 1e3, 2),
        "tokens_per_second_bound": round(slots / max(hbm_s, compute_s), 1),
    }


def _compile(topology: str, slots: int, greedy: bool, folder: Path) -> None:
    """In a process of its own, see `compiler_environment`."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.experimental import topologies
    from jax.sharding import Mesh, NamedSharding, PartitionSpec
    from recurrentgemma import common
    from recurrentgemma import jax as official
    from recurrentgemma.jax import sampler as sampler_module

    class Vocabulary:
        """What the sampling step needs of a vocabulary."""

        def eos_id(self) -> int:
            return 1

    config = common.GriffinConfig.from_preset(common.Preset.RECURRENT_GEMMA_2B_V1)
    model = official.Griffin(config, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)
    sampler = official.Sampler(model, Vocabulary(), None, deterministic_sampling=greedy)
    tokens = jnp.zeros((slots, 1), jnp.int32)
    params = jax.eval_shape(model.init, jax.random.key(0), tokens, tokens)["params"]

    def start() -> dict[str, Any]:
        return {
            "tokens_buffer": jnp.zeros((slots, _STEPS), jnp.int32),
            "rng": None if greedy else jax.random.key(0),
            "step": jnp.int32(0),
            "total_steps": jnp.int32(_STEPS),
            "positions": jnp.zeros((slots, 1), jnp.int32),
            "cache": model.init_cache(slots, jnp.bfloat16),
            "done": jnp.zeros((slots,), jnp.bool_),
        }

    def one_step(params: Any, state: dict[str, Any]) -> dict[str, Any]:
        after = sampler._sample_step(params, sampler_module.SamplingState(**state))
        return {name: getattr(after, name) for name in state}

    devices = topologies.get_topology_desc(topology_name=topology, platform="tpu").devices
    one = NamedSharding(Mesh(np.array(devices[:1]), ("chip",)), PartitionSpec())  # type: ignore[no-untyped-call]

    def placed(tree: Any) -> Any:
        def place(leaf: Any) -> Any:
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=one)  # type: ignore[no-untyped-call]

        return jax.tree.map(place, tree)

    state = placed(jax.eval_shape(start))
    compiled = jax.jit(one_step, donate_argnums=1).lower(placed(params), state).compile()
    (folder / "step.hlo").write_text(compiled.as_text() or "")
    memory: Any = compiled.memory_analysis()
    leaves = [*jax.tree.leaves(params), *jax.tree.leaves(state["cache"])]
    sizes = {
        "minimum_bytes": sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves),
        "temporary_bytes": memory.temp_size_in_bytes,
    }
    (folder / "memory.json").write_text(json.dumps(sizes))


if __name__ == "__main__":
    main()
