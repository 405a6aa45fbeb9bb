"""`fit`: from a question about a model and a TPU to the report that answers it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rgpipeline.errors import UserError
from rgpipeline.fit.bounds import (
    decode_cost,
    fits,
    hbm_bytes,
    prefill_cost,
    serial_bound,
    uncounted_kernels,
)
from rgpipeline.fit.compilation import Compiled, CompileRequest, compile_programs
from rgpipeline.fit.fit_report import FitReport
from rgpipeline.fit.program_cost import component_costs
from rgpipeline.fit.slot_search import compile_most_slots
from rgpipeline.fit.topology import Chip, chip_of, chips_in
from rgpipeline.storage.reachable import check_reachable


@dataclass(frozen=True, slots=True)
class FitRequest:
    """A question; the defaults are those of a job file."""

    model: str
    topology: str
    slots: int | Literal["auto", "max"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    quantize: Literal["none", "int8"] = "none"
    mesh: tuple[int, int] | None = None  # data, model; None: model as small as the weights allow
    engine: Mapping[str, Any] = field(default_factory=dict)  # prefill_chunk, steps_per_dispatch
    storage_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    dump_hlo: Path | None = None


def fit(request: FitRequest) -> FitReport:
    """Compiles a worker's programs for the topology and reads what they will cost.

    Raises:
      UserError: the topology, mesh or model is not usable; the message says why.
      StoreError: the model's store doesn't answer.
      RgpipelineError: the compiler failed.
    """
    chip = chip_of(request.topology)
    compile_request = _compile_request(request, chip)
    check_reachable([request.model], request.storage_options)
    if request.slots == "max":
        compiled = compile_most_slots(compile_request, chip)
    else:
        compiled = compile_programs(compile_request)
    if request.dump_hlo is not None:
        _dump(compiled, request.dump_hlo)
    return _report(compile_request, compiled, chip)


def _compile_request(request: FitRequest, chip: Chip) -> CompileRequest:
    chips = chips_in(request.topology)
    mesh = request.mesh
    if mesh is not None and mesh[0] * mesh[1] != chips:
        raise UserError(
            f"--mesh {mesh[0]},{mesh[1]} is for {mesh[0] * mesh[1]} chips; "
            f"{request.topology} has {chips}"
        )
    return CompileRequest(
        model=request.model,
        topology=request.topology,
        slots="auto" if request.slots == "max" else request.slots,
        dtype="bfloat16" if request.dtype == "auto" else request.dtype,
        quantize=request.quantize,
        mesh=mesh,
        hbm_bytes=chip.hbm_bytes,
        engine=request.engine,
        storage_options=request.storage_options,
    )


def _dump(compiled: Compiled, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, program in compiled.programs.items():
        (folder / f"{name}.hlo").write_text(program.text)
        kernels = {instruction: asdict(code) for instruction, code in program.kernels.items()}
        (folder / f"{name}.kernels.json").write_text(json.dumps(kernels))


def _report(request: CompileRequest, compiled: Compiled, chip: Chip) -> FitReport:
    report = FitReport(
        model=request.model,
        topology=request.topology,
        slots=compiled.slots,
        dtype=request.dtype,
        quantize=request.quantize,
        fits=fits(compiled, chip),
        hbm_bytes=hbm_bytes(compiled, chip),
        decode=None,
        prefill=None,
        compile_seconds=round(sum(one.seconds for one in compiled.programs.values()), 1),
        mesh=compiled.mesh,
        prefill_tokens=compiled.prefill_tokens,
        notes=uncounted_kernels(compiled),
    )
    if compiled.out_of_memory:
        return report
    decode, prefill = compiled.programs["decode"], compiled.programs["prefill"]
    return replace(
        report,
        decode=decode_cost(compiled, chip),
        prefill=prefill_cost(compiled, chip),
        serial_bound=serial_bound(compiled, chip),
        decode_components=tuple(component_costs(decode.runs, compiled.steps)),
        prefill_components=tuple(component_costs(prefill.runs)),
    )
