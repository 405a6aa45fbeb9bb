"""From a question about a model and a TPU to the report that answers it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rgpipeline.fit.chips import Chip, chip_of, chips_in
from rgpipeline.fit.compiled import Compiled, CompiledProgram, CompileRequest, compile_programs
from rgpipeline.fit.program import Cost, program_cost
from rgpipeline.fit.report import DecodeCost, FitReport, HbmBytes, PrefillCost


@dataclass(frozen=True, slots=True)
class FitRequest:
    """What is asked; the defaults are a job file's."""

    model: str
    topology: str
    slots: int | Literal["auto", "max"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    quantize: Literal["none", "int8"] = "none"
    mesh: tuple[int, int] | None = None  # data, model; default: all chips data parallel
    engine: Mapping[str, Any] = field(default_factory=dict)
    dump_hlo: Path | None = None


def fit(request: FitRequest) -> FitReport:
    """Compiles a worker's programs for the topology and reads what they will cost.

    Raises:
      UserError: the topology, mesh or model is not usable; the message says why.
      RgpipelineError: the compiler failed.
    """
    chip = chip_of(request.topology)
    mesh = request.mesh or (chips_in(request.topology), 1)
    compiled = compile_programs(
        CompileRequest(
            model=request.model,
            topology=request.topology,
            slots="auto" if request.slots == "max" else request.slots,
            dtype="bfloat16" if request.dtype == "auto" else request.dtype,
            quantize=request.quantize,
            mesh=mesh,
            hbm_bytes=chip.hbm_bytes,
            engine=request.engine,
        )
    )
    if request.dump_hlo is not None:
        _dump(compiled, request.dump_hlo)
    memory = _memory(compiled, chip)
    broken = any(program.out_of_memory for program in compiled.programs.values())
    return FitReport(
        model=request.model,
        topology=request.topology,
        slots=compiled.slots,
        dtype="bfloat16" if request.dtype == "auto" else request.dtype,
        quantize=request.quantize,
        fits=not broken and memory.total <= chip.hbm_bytes,
        hbm_bytes=memory,
        decode=None if broken else _decode(compiled, chip, mesh[0] * mesh[1]),
        prefill=None if broken else _prefill(compiled, chip, mesh[0] * mesh[1]),
        compile_seconds=round(sum(p.seconds for p in compiled.programs.values()), 1),
    )


def _dump(compiled: Compiled, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, program in compiled.programs.items():
        (folder / f"{name}.hlo").write_text(program.text)
        kernels = {one: asdict(code) for one, code in program.kernels.items()}
        (folder / f"{name}.kernels.json").write_text(json.dumps(kernels))


def _memory(compiled: Compiled, chip: Chip) -> HbmBytes:
    programs = compiled.programs.values()
    temporary = max(p.temporary_bytes + p.output_bytes - p.alias_bytes for p in programs)
    temporary += sum(p.code_bytes for p in programs)
    total = compiled.weights_bytes + compiled.state_bytes + temporary
    return HbmBytes(compiled.weights_bytes, compiled.state_bytes, temporary, total, chip.hbm_bytes)


def _decode(compiled: Compiled, chip: Chip, chips: int) -> DecodeCost:
    program = compiled.programs["decode"]
    cost = program_cost(program.module, program.kernels)
    steps = compiled.steps
    seconds, limit = _bound(cost, chip)
    return DecodeCost(
        hbm_bytes_per_step=cost.traffic.total // steps,
        minimum_hbm_bytes_per_step=compiled.weights_bytes + compiled.state_bytes,
        flops_per_step=compiled.decode_flops // chips,
        compiler_cycles_per_step=cost.cycles // steps,
        collectives={name: count // steps for name, count in sorted(cost.collectives.items())},
        tokens_per_second_bound=round(compiled.slots * steps / seconds / chips, 1),
        limited_by=limit,
    )


def _prefill(compiled: Compiled, chip: Chip, chips: int) -> PrefillCost:
    program = compiled.programs["prefill"]
    cost = program_cost(program.module, program.kernels)
    seconds, limit = _bound(cost, chip)
    return PrefillCost(
        hbm_bytes_per_chunk=cost.traffic.total,
        flops_per_chunk=compiled.prefill_flops // chips,
        compiler_cycles_per_chunk=cost.cycles,
        tokens_per_second_bound=round(compiled.prefill_tokens / seconds / chips, 1),
        limited_by=limit,
    )


def _bound(cost: Cost, chip: Chip) -> tuple[float, str]:
    """Seconds of one run at the least, and what takes them."""
    memory = cost.traffic.total / chip.hbm_bytes_per_s
    compute = cost.cycles / chip.clock_hz
    return max(memory, compute), "memory" if memory >= compute else "compute"


Program = CompiledProgram
