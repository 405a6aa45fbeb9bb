"""Compiles a worker's programs for a TPU, without a TPU: a process that takes one request.

    python -m rgpipeline.engine.programs.compiling REQUEST.json FOLDER

libtpu reads its environment once, when it is loaded, and a crash of the compiler ends the process,
so the caller starts a new process for each request. FOLDER gets every program's scheduled HLO
(`decode.hlo` and so on) and `compiled.json`, or `error.json` if the request can't be met.
"""

import json
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from rgpipeline.engine.programs.device_programs import PARAMS
from rgpipeline.engine.programs.lowering import (
    Tree,
    WorkerPrograms,
    decode_weights_bytes,
    placed,
    tree_bytes,
    worker_programs,
)
from rgpipeline.engine.sizing import Memory, resolve_settings
from rgpipeline.engine.step_tuner import MAX_STEPS
from rgpipeline.errors import UserError, WeightsError
from rgpipeline.model.collectives import Chips
from rgpipeline.model.config import GriffinConfig, known_config
from rgpipeline.model.mesh_shapes import check_model, mesh_shape_for
from rgpipeline.model.params import param_shapes
from rgpipeline.model.sharding import check_slots, mesh_of
from rgpipeline.model.weights.checkpoint import read_config
from rgpipeline.model.weights.model_source import resolve_source
from rgpipeline.records import ResolvedSettings
from rgpipeline.spec import EngineSpec, ModelSpec
from rgpipeline.storage.filesystems import StorageOptions, resolve_options

# Where libtpu writes the kernels' code, if LIBTPU_INIT_ARGS says so.
CODE = "code"

_OUT_OF_MEMORY = re.compile(r"RESOURCE_EXHAUSTED|Ran out of memory")


def main(arguments: list[str]) -> None:
    request = json.loads(Path(arguments[0]).read_text())
    folder = Path(arguments[1])
    try:
        answer = compile_request(request, folder)
    except UserError as error:
        (folder / "error.json").write_text(json.dumps({"message": str(error)}))
        return
    (folder / "compiled.json").write_text(json.dumps(answer))


def compile_request(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Compiles the programs that a request names, in order. Raises UserError."""
    model = ModelSpec.model_validate(request["model"])
    config = _config(model, request["storage_options"])
    devices = _devices(request["topology"])
    params = param_shapes(config, jnp.dtype(model.dtype), model.quantize == "int8")
    chips = _chips(config, params, devices, request)
    mesh = mesh_of(devices, chips)
    settings = _settings(config, model, request, tree_bytes(placed(params, mesh, PARAMS)), chips)
    worker = worker_programs(config, settings, mesh)
    return {
        "mesh": (chips.data, chips.model),
        "slots": settings.slots,
        "steps": settings.steps_per_dispatch,
        "prefill_tokens": worker.prefill_tokens,
        "decode_flops": worker.decode_flops,
        "prefill_flops": worker.prefill_flops,
        "decode_int8_flops": worker.decode_int8_flops,
        "prefill_int8_flops": worker.prefill_int8_flops,
        "weights_bytes": tree_bytes(worker.params),
        "decode_weights_bytes": decode_weights_bytes(worker.params),
        "state_bytes": tree_bytes(worker.state),
        "prefill_buffer_bytes": tree_bytes(worker.buffer),
        "mask_bytes": tree_bytes(worker.masks),
        "programs": {name: _compile(worker, name, folder) for name in request["programs"]},
    }


def _config(model: ModelSpec, storage_options: StorageOptions) -> GriffinConfig:
    try:
        if model.adapter is None and model.base is None:
            return known_config(model.weights)
    except WeightsError as unknown:
        named = model.weights == "demo" or "/" in model.weights or Path(model.weights).is_dir()
        if not named:
            raise WeightsError(f"{unknown}; or give a checkpoint's folder") from None
    return read_config(resolve_source(model, resolve_options(storage_options)))


def _settings(
    config: GriffinConfig, model: ModelSpec, request: dict[str, Any], weights: int, chips: Chips
) -> ResolvedSettings:
    spec = EngineSpec(slots=request["slots"], **request["engine"])
    hbm = request["hbm_bytes"]
    settings = resolve_settings(
        *(config, spec, Memory(hbm, hbm, cpu=False), weights),
        dtype="float32" if model.dtype == "float32" else "bfloat16",
        quantize=model.quantize,
        platform="tpu",
        devices=chips.count,
    )
    check_slots(settings.slots, chips, "engine.slots")
    return replace(settings, steps_per_dispatch=settings.steps_per_dispatch or MAX_STEPS)


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
    _keep_code(folder, name)
    memory: Any = compiled.memory_analysis()
    return {
        "seconds": seconds,
        "argument_bytes": memory.argument_size_in_bytes,
        "output_bytes": memory.output_size_in_bytes,
        "alias_bytes": memory.alias_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "code_bytes": memory.generated_code_size_in_bytes,
    }


def _keep_code(folder: Path, name: str) -> None:
    """Moves what libtpu wrote of this program: the next one's kernels may have the same names."""
    written = folder / CODE
    if written.is_dir():
        written.rename(folder / f"{name}.{CODE}")


def _devices(topology: str) -> list[Any]:
    try:
        described = topologies.get_topology_desc(topology_name=topology, platform="tpu")
    except Exception as error:
        raise UserError(f"--topology {topology}: the TPU compiler refuses it: {error}") from error
    return list(described.devices)


def _chips(
    config: GriffinConfig, params: Tree, devices: list[Any], request: dict[str, Any]
) -> Chips:
    """How the topology's chips are divided: as asked, or by the size of the weights."""
    asked, count = request["mesh"], len(devices)
    if asked is None:
        asked = mesh_shape_for(config, tree_bytes(params), count, request["hbm_bytes"])
    chips = Chips(*asked)
    if chips.count != count:
        raise UserError(
            f"--mesh data={chips.data},model={chips.model} is for {chips.count} chips; "
            f"{request['topology']} has {count}"
        )
    check_model(config, chips.model, "--mesh")
    return chips


if __name__ == "__main__":
    main(sys.argv[1:])
