"""Compiles a worker's programs for a TPU that is not there; its own process, one request in it.

    python -m rgpipeline.engine.compiling REQUEST.json FOLDER

libtpu reads its environment once, when it is loaded, and a fault of the compiler ends the process:
so the one who asks starts another for it. FOLDER gets every program's scheduled HLO (`decode.hlo`
and so on) and `compiled.json`, or `error.json` if the request can't be met.
"""

import dataclasses
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh

from rgpipeline.engine.lowering import WorkerPrograms, tree_bytes, worker_programs
from rgpipeline.errors import UserError
from rgpipeline.model.config import GriffinConfig
from rgpipeline.records import EngineSettings

_OUT_OF_MEMORY = re.compile(r"RESOURCE_EXHAUSTED|Ran out of memory")


def main(arguments: list[str]) -> None:
    """Reads the request, compiles, writes what came of it."""
    request = json.loads(Path(arguments[0]).read_text())
    folder = Path(arguments[1])
    try:
        answer = compile_request(request, folder)
    except UserError as error:
        (folder / "error.json").write_text(json.dumps({"message": str(error)}))
        return
    (folder / "compiled.json").write_text(json.dumps(answer))


def compile_request(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Compiles the programs a request names, in its order. Raises UserError."""
    config = GriffinConfig(**_tuples(request["config"]))
    settings = EngineSettings(**request["settings"])
    mesh = _mesh(request["topology"], request["mesh"])
    worker = worker_programs(config, settings, mesh)
    return {
        "weights_bytes": tree_bytes(worker.params),
        "state_bytes": tree_bytes(worker.state),
        "prefill_tokens": worker.prefill_tokens,
        "devices": mesh.size,
        "programs": {name: _compile(worker, name, folder) for name in request["programs"]},
    }


def _compile(worker: WorkerPrograms, name: str, folder: Path) -> dict[str, Any]:
    start = time.monotonic()
    lowered = worker.programs[name].lower()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if not _OUT_OF_MEMORY.search(str(error)):
            raise
        return {"out_of_memory": str(error), "seconds": time.monotonic() - start}
    seconds = time.monotonic() - start
    (folder / f"{name}.hlo").write_text(compiled.as_text() or "")
    memory = compiled.memory_analysis()
    analysis = compiled.cost_analysis()
    return {
        "seconds": seconds,
        "argument_bytes": memory.argument_size_in_bytes,
        "output_bytes": memory.output_size_in_bytes,
        "alias_bytes": memory.alias_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "code_bytes": memory.generated_code_size_in_bytes,
        "flops": analysis.get("flops", 0.0),
    }


def _mesh(topology: str, shape: dict[str, int]) -> Mesh:
    try:
        described = topologies.get_topology_desc(topology_name=topology, platform="tpu")
    except Exception as error:
        raise UserError(
            f"--topology {topology}: the TPU compiler does not know it ({error})"
        ) from error
    devices = np.array(described.devices)
    wanted = shape["data"] * shape["model"]
    if wanted != devices.size:
        raise UserError(
            f"--mesh data={shape['data']},model={shape['model']} is for {wanted} chips; "
            f"{topology} has {devices.size}"
        )
    return Mesh(devices.reshape(shape["data"], shape["model"]), ("data", "model"))


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
    }


def request_fields(config: GriffinConfig, settings: EngineSettings) -> dict[str, Any]:
    """The part of a request that says what is compiled."""
    return {"config": dataclasses.asdict(config), "settings": dataclasses.asdict(settings)}


if __name__ == "__main__":
    main(sys.argv[1:])
