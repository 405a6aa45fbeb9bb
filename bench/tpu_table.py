"""The tables of docs/tpu.md: ours, the official library and the limit, computed the same way.

    nice python -m bench.tpu_table [--only decode prefill several]

Compiles one program after another, half an hour in all on two cores, and prints Markdown.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from typing import Literal

from bench.tpu_official import measured
from rgpipeline.errors import RgpipelineError
from rgpipeline.fit import FitReport, FitRequest, fit
from rgpipeline.fit.topology import chip_of
from rgpipeline.spec import ModelSpec

_TWO, _NINE, _ONE_CHIP = "recurrentgemma-2b", "recurrentgemma-9b", "v5e:1x1x1"
Quantize = Literal["none", "int8"]
Slots = int | Literal["max"]
# Quantization and slots.
_DECODE_ROWS: tuple[tuple[Quantize, Slots], ...] = (
    ("none", 64),
    ("none", 256),
    ("none", 384),
    ("none", "max"),
    ("int8", 256),
    ("int8", "max"),
)
_SEVERAL_ROWS: tuple[tuple[str, str, tuple[int, int], Quantize], ...] = (
    (_NINE, "v5e:1x1x1", (1, 1), "int8"),
    (_NINE, "v5e:2x2", (1, 4), "none"),
    (_NINE, "v5e:2x4", (2, 4), "none"),
    (_TWO, "v5e:2x2", (4, 1), "none"),
    (_TWO, "v6e:1x1", (1, 1), "none"),
    (_TWO, "v6e:2x2", (4, 1), "none"),
    (_NINE, "v6e:2x2", (1, 4), "none"),
)


def main() -> None:
    """Prints the chosen tables, each row as soon as it is computed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=_TABLES, default=list(_TABLES))
    for name in parser.parse_args().only:
        for line in _TABLES[name]():
            print(line, flush=True)
        print()


def _decode() -> Iterator[str]:
    yield "| | slots | HBM GB (minimum) | ms HBM | ms cycles | bound tok/s | serial | limit |"
    yield "|---|---|---|---|---|---|---|---|"
    for count in (64, 256, 384):
        official = measured(_ONE_CHIP, count, greedy=False)
        moved, least = (
            official[name] / 1e9 for name in ("hbm_bytes_per_step", "minimum_hbm_bytes_per_step")
        )
        yield (
            f"| official | {count} | {moved:.2f} ({least:.2f}) | {official['hbm_ms']:.1f} "
            f"| {official['cycles_ms']:.1f} | {_rounded(official['tokens_per_second_bound'])} | – "
            f"| {_rounded(_limit(count, least * 1e9))} |"
        )
    for quantize, slots in _DECODE_ROWS:
        asked = ModelSpec(weights=_TWO, quantize=quantize)
        report = _report(FitRequest(asked, _ONE_CHIP, slots=slots))
        if report is not None:
            yield _decode_row("ours, " + ("int8" if quantize == "int8" else "bf16"), report)


def _decode_row(name: str, report: FitReport) -> str:
    decode, chip = report.decode, chip_of(report.topology)
    if decode is None:
        return f"| {name} | {report.slots} | does not fit | | | | | |"
    hbm = decode.hbm_bytes_per_step / chip.hbm_bytes_per_s * 1e3
    cycles = decode.compiler_cycles_per_step / chip.clock_hz * 1e3
    least = decode.minimum_hbm_bytes_per_step
    return (
        f"| {name} | {report.slots} | {decode.hbm_bytes_per_step / 1e9:.2f} ({least / 1e9:.2f}) "
        f"| {hbm:.1f} | {cycles:.1f} | {_rounded(decode.tokens_per_second_bound)} "
        f"| {_rounded(report.serial_bound)} | {_rounded(_limit(report.slots, least))} |"
    )


def _prefill() -> Iterator[str]:
    yield "| prefill | HBM GB a call | M cycles a call | bound tok/s | limit by FLOP/s |"
    yield "|---|---|---|---|---|"
    for quantize in ("none", "int8"):
        asked = ModelSpec(weights=_TWO, quantize=quantize)
        report = _report(FitRequest(asked, _ONE_CHIP, slots=256))
        if report is None or report.prefill is None:
            continue
        prefill = report.prefill
        peak = chip_of(_ONE_CHIP).flops_per_s * (2 if quantize == "int8" else 1)
        least_s = prefill.flops_per_chunk / peak
        yield (
            f"| {'int8' if quantize == 'int8' else 'bf16'} "
            f"| {prefill.hbm_bytes_per_chunk / 1e9:.2f} "
            f"| {prefill.compiler_cycles_per_chunk / 1e6:.1f} "
            f"| {_rounded(prefill.tokens_per_second_bound)} "
            f"| {_rounded(report.prefill_tokens / least_s)} |"
        )


def _several() -> Iterator[str]:
    yield (
        "| model | topology | mesh data × model | slots | GiB a chip | collectives a step "
        "| decode tok/s a chip | prefill tok/s a chip |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for model, topology, mesh, quantize in _SEVERAL_ROWS:
        asked = ModelSpec(weights=model, quantize=quantize)
        report = _report(FitRequest(asked, topology, mesh=mesh))
        if report is None or report.decode is None or report.prefill is None:
            continue
        quantized = "" if quantize == "none" else f", {quantize}"
        counts = ", ".join(f"{n} {name}" for name, n in report.decode.collectives.items())
        yield (
            f"| {model.removeprefix('recurrentgemma-')}{quantized} | {topology} "
            f"| {mesh[0]} × {mesh[1]} | {report.slots} | {report.hbm_bytes.total / 2**30:.1f} "
            f"| {counts or 'none'} | {_rounded(report.decode.tokens_per_second_bound)} "
            f"| {_rounded(report.prefill.tokens_per_second_bound)} |"
        )


def _report(request: FitRequest) -> FitReport | None:
    """The report, or None after printing on stderr why there is none."""
    try:
        return fit(request)
    except RgpipelineError as error:
        print(f"{request.model} on {request.topology}: {error}", file=sys.stderr)
        return None


def _limit(slots: int, least: float) -> float:
    return slots * chip_of(_ONE_CHIP).hbm_bytes_per_s / least


def _rounded(rate: float) -> str:
    """Rounded to hundreds: the estimate is not more precise."""
    return f"{round(rate, -2):,.0f}" if rate >= 1000 else f"{rate:.0f}"


_TABLES: dict[str, Callable[[], Iterator[str]]] = {
    "decode": _decode,
    "prefill": _prefill,
    "several": _several,
}

if __name__ == "__main__":
    main()
