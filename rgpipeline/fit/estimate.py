"""`fit`: from a question about a model and a TPU to the report that answers it.

The most slots that fit are found with few compilations. A program that does not fit is refused
within seconds, and the refusal says how much memory it needs. A program that fits takes half a
minute or more to compile. So the search comes from above: two refusals give a line, the line gives
a candidate, and from there the search goes step by step.
"""

import json
from collections.abc import Callable, Mapping
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
    structured_cost,
    uncounted_kernels,
)
from rgpipeline.fit.compilation import (
    PROGRAMS,
    STRUCTURED,
    Compiled,
    CompileRequest,
    compile_programs,
)
from rgpipeline.fit.fit_report import FitReport
from rgpipeline.fit.program_cost import component_costs
from rgpipeline.fit.topology import Chip, chip_of, chips_in
from rgpipeline.spec import ModelSpec
from rgpipeline.storage.reachable import check_reachable

# Rows of a memory tile of int8: other numbers of slots are padded to a multiple of it.
TILE = 32


@dataclass(frozen=True, slots=True)
class FitRequest:
    """A question; the defaults are those of a job file."""

    model: ModelSpec  # its weights may be a built-in model's name
    topology: str
    slots: int | Literal["auto", "max"] = "auto"
    mesh: tuple[int, int] | None = None  # data, model; None: model as small as the weights allow
    engine: Mapping[str, Any] = field(default_factory=dict)  # prefill_chunk, steps_per_dispatch
    storage_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    structured: bool = False  # also the step of slots with grammars
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
    check_reachable([url for _, url in request.model.urls()], request.storage_options)
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
    model = request.model
    if model.dtype == "auto":
        model = model.model_copy(update={"dtype": "bfloat16"})
    return CompileRequest(
        model=model,
        topology=request.topology,
        slots="auto" if request.slots == "max" else request.slots,
        mesh=mesh,
        hbm_bytes=chip.hbm_bytes,
        engine=request.engine,
        storage_options=request.storage_options,
        programs=PROGRAMS + (STRUCTURED if request.structured else ()),
    )


def _dump(compiled: Compiled, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, program in compiled.programs.items():
        (folder / f"{name}.hlo").write_text(program.text)
        kernels = {instruction: asdict(code) for instruction, code in program.kernels.items()}
        (folder / f"{name}.kernels.json").write_text(json.dumps(kernels))


def _report(request: CompileRequest, compiled: Compiled, chip: Chip) -> FitReport:
    report = FitReport(
        model=request.model.weights,
        topology=request.topology,
        slots=compiled.slots,
        dtype=request.model.dtype,
        quantize=request.model.quantize,
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
        structured=structured_cost(compiled, chip) if "draw" in compiled.programs else None,
    )


@dataclass(frozen=True, slots=True)
class Trial:
    """What a compilation for one number of slots says, per chip."""

    slots: int
    fits: bool
    total_bytes: int  # that it needs, whether or not it fits
    weights_bytes: int
    slot_bytes: float  # of state, each slot


def compile_most_slots(request: CompileRequest, chip: Chip) -> Compiled:
    """The request's programs, compiled for the largest number of slots that fits.

    The search compiles the decode program alone, which needs the most memory in nearly all cases;
    the others are compiled for its result.

    Raises:
      UserError: not even the smallest number of slots fits.
    """
    step = TILE * chips_in(request.topology)
    compiled: dict[int, Compiled] = {}

    def attempt(slots: int) -> Trial:
        if slots not in compiled:
            decode = replace(request, slots=slots, programs=("decode",))
            compiled[slots] = compile_programs(decode)
        return _trial(compiled[slots], chip)

    others = tuple(name for name in request.programs if name != "decode")
    found = most_slots(attempt, chip.hbm_bytes, step=step)
    while found is not None:
        rest = compile_programs(replace(request, slots=found.slots, programs=others))
        programs = {**compiled[found.slots].programs, **rest.programs}
        whole = replace(rest, programs=programs)
        if fits(whole, chip):
            return whole
        found = attempt(found.slots - step) if found.slots > step else None
    raise UserError(_nothing_fits(request, compiled, chip))


def most_slots(
    attempt: Callable[[int], Trial], capacity: int, *, step: int = TILE, far: int = 4096
) -> Trial | None:
    """The largest multiple of `step` that fits; None if not even one step does.

    Args:
      attempt: compiles for a number of slots.
      capacity: bytes of one chip.
      step: slots are a multiple of it.
      far: the number of slots to begin with.
    """
    trial = _candidate(attempt, capacity, step, far)
    refused: int | None = None
    while not trial.fits:
        refused = trial.slots
        missing = trial.total_bytes - capacity
        slots = trial.slots - max(step, _up(missing / trial.slot_bytes, step))
        if slots < step:
            return None
        trial = attempt(slots)
    while refused is None or trial.slots + step < refused:
        above = attempt(trial.slots + step)
        if not above.fits:
            break
        trial = above
    return trial


def _candidate(attempt: Callable[[int], Trial], capacity: int, step: int, far: int) -> Trial:
    """A trial near the capacity: where the line through two refusals meets it."""
    first = attempt(max(step, _down(far, step)))
    while first.fits:
        first = attempt(first.slots * 2)
    most = _down((capacity - first.weights_bytes) / first.slot_bytes, step)
    second = attempt(max(step, most))
    if second.fits or second.slots in (step, first.slots):
        return second
    slope = (first.total_bytes - second.total_bytes) / (first.slots - second.slots)
    missing = (second.total_bytes - capacity) / max(slope, second.slot_bytes)
    return attempt(max(step, _down(second.slots - missing, step)))


def _trial(compiled: Compiled, chip: Chip) -> Trial:
    memory = hbm_bytes(compiled, chip)
    return Trial(
        slots=compiled.slots,
        fits=fits(compiled, chip),
        total_bytes=memory.total,
        weights_bytes=memory.weights,
        slot_bytes=memory.state / compiled.slots,
    )


def _nothing_fits(request: CompileRequest, compiled: Mapping[int, Compiled], chip: Chip) -> str:
    fewest = min(compiled)
    memory = hbm_bytes(compiled[fewest], chip)
    other = ", or --quantize int8" if request.model.quantize == "none" else ""
    return (
        f"{request.model.weights} does not fit {request.topology} with even {fewest} slots: "
        f"weights are {memory.weights / 2**30:.2f} GiB a chip, of {memory.capacity / 2**30:.2f}; "
        f"take a chip with more memory{other}"
    )


def _down(slots: float, step: int) -> int:
    return int(slots // step) * step


def _up(slots: float, step: int) -> int:
    return -int(-slots // step) * step
