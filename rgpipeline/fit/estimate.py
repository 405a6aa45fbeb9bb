"""From a question about a model and a TPU to the report that answers it."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rgpipeline.errors import UserError
from rgpipeline.fit.bounds import (
    decode_apart,
    decode_cost,
    fits,
    hbm_bytes,
    prefill_cost,
    program_parts,
    uncounted,
)
from rgpipeline.fit.compilation import Compiled, CompileRequest, compile_programs
from rgpipeline.fit.fit_report import FitReport
from rgpipeline.fit.slot_search import TILE, Trial, most_slots
from rgpipeline.fit.topology import Chip, chip_of, chips_in
from rgpipeline.storage.reachable import check_reachable

# decode and prefill decide; the others show that they compile, and add their code.
_PROGRAMS = ("decode", "prefill", "seat", "assign")


@dataclass(frozen=True, slots=True)
class FitRequest:
    """What is asked; the defaults are a job file's."""

    model: str
    topology: str
    slots: int | Literal["auto", "max"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    quantize: Literal["none", "int8"] = "none"
    mesh: tuple[int, int] | None = (
        None  # data, model; default: as few parts of the model as it takes
    )
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
    asked = _compile_request(request, chip)
    check_reachable([request.model], request.storage_options)
    compiled = _most(asked, chip) if request.slots == "max" else compile_programs(asked)
    if request.dump_hlo is not None:
        _dump(compiled, request.dump_hlo)
    return _report(request, asked, compiled, chip)


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
        programs=_PROGRAMS,
    )


def _most(asked: CompileRequest, chip: Chip) -> Compiled:
    """Compiled for the largest number of slots that fits, decode first: it decides nearly alone."""
    step = TILE * chips_in(asked.topology)
    known: dict[int, Compiled] = {}

    def attempt(slots: int) -> Trial:
        if slots not in known:
            one = dataclasses.replace(asked, slots=slots, programs=("decode",))
            known[slots] = compile_programs(one)
        return _trial(known[slots], chip)

    found = most_slots(attempt, chip.hbm_bytes, step=step)
    while found is not None:
        rest = dataclasses.replace(asked, slots=found.slots, programs=_PROGRAMS[1:])
        others = compile_programs(rest)
        programs = {**known[found.slots].programs, **others.programs}
        compiled = dataclasses.replace(others, programs=programs)
        if fits(compiled, chip):
            return compiled
        found = attempt(found.slots - step) if found.slots > step else None
    raise UserError(_nothing_fits(asked, known, chip))


def _trial(compiled: Compiled, chip: Chip) -> Trial:
    memory = hbm_bytes(compiled, chip)
    return Trial(
        slots=compiled.slots,
        fits=fits(compiled, chip),
        total_bytes=memory.total,
        weights_bytes=memory.weights,
        slot_bytes=memory.state / compiled.slots,
    )


def _nothing_fits(asked: CompileRequest, known: Mapping[int, Compiled], chip: Chip) -> str:
    memory = hbm_bytes(known[min(known)], chip)
    other = ", or --quantize int8" if asked.quantize == "none" else ""
    return (
        f"{asked.model} does not fit {asked.topology} with even {min(known)} slots: weights are "
        f"{memory.weights / 2**30:.2f} GiB a chip, of {memory.capacity / 2**30:.2f}; "
        f"take a chip with more memory{other}"
    )


def _dump(compiled: Compiled, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, program in compiled.programs.items():
        (folder / f"{name}.hlo").write_text(program.text)
        kernels = {one: asdict(code) for one, code in program.kernels.items()}
        (folder / f"{name}.kernels.json").write_text(json.dumps(kernels))


def _report(
    request: FitRequest, asked: CompileRequest, compiled: Compiled, chip: Chip
) -> FitReport:
    chips = chips_in(asked.topology)
    known = not any(program.out_of_memory for program in compiled.programs.values())
    return FitReport(
        model=request.model,
        topology=request.topology,
        slots=compiled.slots,
        dtype=asked.dtype,
        quantize=asked.quantize,
        fits=fits(compiled, chip),
        hbm_bytes=hbm_bytes(compiled, chip),
        decode=decode_cost(compiled, chip, chips) if known else None,
        prefill=prefill_cost(compiled, chip, chips) if known else None,
        compile_seconds=round(sum(one.seconds for one in compiled.programs.values()), 1),
        chips=chips,
        mesh=compiled.mesh,
        prefill_tokens=compiled.prefill_tokens,
        decode_apart=decode_apart(compiled, chip, chips) if known else 0.0,
        decode_parts=tuple(program_parts(compiled, "decode")) if known else (),
        prefill_parts=tuple(program_parts(compiled, "prefill")) if known else (),
        notes=uncounted(compiled),
    )
