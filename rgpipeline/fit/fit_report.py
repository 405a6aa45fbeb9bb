"""The report of `fit`: its figures, per chip, as JSON and as lines for a terminal."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rgpipeline.fit.program_cost import ComponentCost
from rgpipeline.fit.topology import Chip, chip_of
from rgpipeline.wording import count, size

_COMPONENTS = 6  # of each program, those that take longest
_NOT_IN_JSON = {
    "mesh", "prefill_tokens", "serial_bound", "decode_components", "prefill_components", "notes",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class HbmBytes:
    """Memory of one chip."""

    weights: int
    state: int
    temporary: int  # the largest program's temporaries and results, and the code of all
    total: int
    capacity: int


@dataclass(frozen=True, slots=True)
class DecodeCost:
    """One step of the decode block, all slots of the worker, on one chip."""

    hbm_bytes_per_step: int
    minimum_hbm_bytes_per_step: int  # weights once, state once
    flops_per_step: int
    compiler_cycles_per_step: int
    collectives: Mapping[str, int]  # operation: how many a step
    tokens_per_second_bound: float
    limited_by: str  # hbm | compute


@dataclass(frozen=True, slots=True)
class PrefillCost:
    """One call of the prefill program with the longest chunk, on one chip."""

    hbm_bytes_per_chunk: int
    flops_per_chunk: int
    compiler_cycles_per_chunk: int
    tokens_per_second_bound: float
    limited_by: str  # hbm | compute


@dataclass(frozen=True, slots=True)
class StructuredCost:
    """One step of all slots while a slot has a grammar: two programs, on one chip.

    The second program begins when the masks are there, so the two don't overlap.
    """

    hbm_bytes_per_step: int
    compiler_cycles_per_step: int
    upload_bytes_per_step: int  # masks, from the host
    tokens_per_second_bound: float
    times_decode: float  # a step's least time, over that of a step of `decode`


@dataclass(frozen=True, slots=True)
class FitReport:
    """The answer to one request; `decode` and `prefill` are None when it does not fit."""

    model: str
    topology: str
    slots: int  # of the whole worker
    dtype: str
    quantize: str
    fits: bool
    hbm_bytes: HbmBytes
    decode: DecodeCost | None
    prefill: PrefillCost | None
    compile_seconds: float
    mesh: tuple[int, int] = (1, 1)  # data, model
    prefill_tokens: int = 0  # of one call
    serial_bound: float = 0.0  # decode tokens/s a chip if kernels run one after the other
    decode_components: tuple[ComponentCost, ...] = ()  # per step
    prefill_components: tuple[ComponentCost, ...] = ()  # per call
    notes: tuple[str, ...] = ()  # what the figures leave out
    structured: StructuredCost | None = None  # if it was asked for

    @property
    def chips(self) -> int:
        return self.mesh[0] * self.mesh[1]

    def to_json(self) -> dict[str, Any]:
        """What `fit --json` prints: plain values, stable names."""
        left_out = _NOT_IN_JSON | ({"structured"} if self.structured is None else set())
        return {name: value for name, value in asdict(self).items() if name not in left_out}

    def render(self) -> str:
        """Lines for a terminal: the figures, and where the time goes.

        Figures are of one chip unless a line says otherwise.
        """
        return "\n".join(_lines(self, chip_of(self.topology)))


def limit_sentence(report: FitReport) -> str:
    """One sentence that says what limits."""
    memory = report.hbm_bytes
    if report.decode is None or not report.fits:
        other = ", or --quantize int8" if report.quantize == "none" else ""
        return (
            f"{report.slots} slots do not fit: {_gib(memory.total)} of memory are needed, "
            f"{_gib(memory.total - memory.capacity)} more than the chip has; "
            f"fewer slots would do (--slots max finds how many){other}"
        )
    chip = chip_of(report.topology)
    moved = report.decode.hbm_bytes_per_step / chip.hbm_bytes_per_s
    computed = report.decode.compiler_cycles_per_step / chip.clock_hz
    times = f"{_ms(moved)} of memory traffic, {_ms(computed)} of computing"
    if report.decode.limited_by == "hbm":
        share = report.decode.minimum_hbm_bytes_per_step / report.decode.hbm_bytes_per_step
        return (
            f"decode is limited by memory ({times} a step); {share:.0%} of the traffic is weights "
            f"and state, which every step must read"
        )
    worst = report.decode_components[0].name if report.decode_components else "the model"
    return f"decode is limited by computing ({times} a step); its largest part is {worst}"


def _lines(report: FitReport, chip: Chip) -> Iterator[str]:
    memory = report.hbm_bytes
    quantized = "" if report.quantize == "none" else f", {report.quantize}"
    yield (
        f"{report.model} in {report.dtype}{quantized} on {report.topology}, "
        f"{_mesh(report)}{report.slots} slots: {'fits' if report.fits else 'does not fit'}"
    )
    yield ""
    yield f"memory   {_gib(memory.total)} of {_gib(memory.capacity)}" + _each(report)
    yield (
        f"         weights {_gib(memory.weights)}, state {_gib(memory.state)}, "
        f"temporary {_gib(memory.temporary)}"
    )
    if report.decode is not None and report.prefill is not None:
        yield from _decode_lines(report, chip)
        yield from _prefill_lines(report, chip)
    if report.structured is not None:
        yield from _structured_lines(report, report.structured)
    yield ""
    yield f"{limit_sentence(report)}."
    yield from (f"{note}." for note in report.notes)
    yield f"Bounds from the compiler, not measurements. Compiled in {report.compile_seconds:.0f} s."


def _decode_lines(report: FitReport, chip: Chip) -> Iterator[str]:
    decode = report.decode
    assert decode is not None
    yield ""
    yield f"decode   at most {count(decode.tokens_per_second_bound)} tokens/s" + _each(report)
    yield (
        f"         a step moves {size(decode.hbm_bytes_per_step)} (minimum "
        f"{size(decode.minimum_hbm_bytes_per_step)}) and takes "
        f"{decode.compiler_cycles_per_step / 1e6:.2f} M cycles"
    )
    if report.serial_bound:
        yield (
            f"         {count(report.serial_bound)} tokens/s, if the memory traffic of one kernel "
            f"does not overlap the computing of another"
        )
    if decode.collectives:
        counts = ", ".join(f"{count} {name}" for name, count in decode.collectives.items())
        yield f"         between chips: {counts}"
    yield from _component_lines(report.decode_components, chip)


def _prefill_lines(report: FitReport, chip: Chip) -> Iterator[str]:
    prefill = report.prefill
    assert prefill is not None
    yield ""
    yield f"prefill  at most {count(prefill.tokens_per_second_bound)} tokens/s" + _each(report)
    yield (
        f"         a call moves {size(prefill.hbm_bytes_per_chunk)} and takes "
        f"{prefill.compiler_cycles_per_chunk / 1e6:.2f} M cycles"
    )
    yield from _component_lines(report.prefill_components, chip)


def _structured_lines(report: FitReport, cost: StructuredCost) -> Iterator[str]:
    yield ""
    yield f"grammars at most {count(cost.tokens_per_second_bound)} tokens/s" + _each(report)
    yield (
        f"         a step is two programs and takes {cost.times_decode:.3f} times as long as in a "
        f"block; {size(cost.upload_bytes_per_step)} of masks go to the chip"
    )


def _component_lines(components: Iterable[ComponentCost], chip: Chip) -> Iterator[str]:
    for component in list(components)[:_COMPONENTS]:
        yield (
            f"           {component.name:34} {size(component.hbm_bytes):>9} "
            f"{component.cycles / chip.clock_hz * 1e3:7.2f} ms computing"
        )


def _mesh(report: FitReport) -> str:
    data, model = report.mesh
    return f"data {data} × model {model}, " if report.chips > 1 else ""


def _each(report: FitReport) -> str:
    return f" a chip, {report.chips} chips" if report.chips > 1 else ""


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"
