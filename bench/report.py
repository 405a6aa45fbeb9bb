"""The bench's results as a table of rates and ratios."""

from collections.abc import Iterator
from typing import Any

Result = dict[str, Any]
Line = tuple[str, str]


def lines(name: str, result: Result) -> Iterator[Line]:
    """A section's results: label and value."""
    if name == "limit":
        yield from _limit(result)
    elif name in ("fixed", "mixed", "long_prompt"):
        yield from _peers(result)
    elif name == "shared_prefix":
        for key in ("with_cache", "without_cache"):
            yield key.replace("_", " "), _run(result[key])
        yield "with / without", f"{result['times']:.2f} x{_same(result)}"
    elif name == "long_output":
        yield "whole", _run(result)
        early, late = result["early_tokens_per_s"], result["late_tokens_per_s"]
        yield "late / early", f"{late:,.0f} / {early:,.0f} tok/s = {result['late_of_early']:.3f}"
        growth, spread = result["memory_growth"], result["memory_spread"]
        yield "resident memory", f"{growth:+.2%} at the end, {spread:.2%} between extremes"
    elif name == "workers":
        many, one = result["many_tokens_per_s"], result["one_tokens_per_s"]
        label = f"{result['workers']} workers / one"
        yield label, f"{many:,.0f} / {one:,.0f} tok/s = {result['many_of_one']:.2f}{_same(result)}"
    elif name == "structured":
        for label, run in result["grammars"].items():
            bound, free = run["tokens_per_s"], run["free_tokens_per_s"]
            yield label, f"{bound:,.0f} / {free:,.0f} tok/s without = {run['of_free']:.3f}"
    elif name == "start":
        yield "first token", f"{result['warm_s']:.1f} s ({result['cold_s']:.1f} s with compilation)"
    elif name == "figure_1a":
        yield "tokens", "".join(f"{length:>9,}" for length in result["lengths"])
        for peer, curve in result["curves"].items():
            rates = "".join(f"{rate:>9,.0f}" for rate in curve["tokens_per_s"])
            yield f"{peer} {curve['dtype']}", rates


def _limit(result: Result) -> Iterator[Line]:
    for row in result["rows"]:
        for what in ("decode", "prefill"):
            rate, most, share = (
                row[f"{what}_{kind}"] for kind in ("tokens_per_s", "limit", "of_limit")
            )
            label = f"{what} {row['dtype']} {row['slots']} slots"
            fastest = row[f"{what}_of_fastest"]
            yield (
                label,
                f"{rate:,.0f} of {most:,.0f} tok/s = {share:.2f} ({fastest:.2f} of the fastest)",
            )


def _peers(result: Result) -> Iterator[Line]:
    for peer, run in result["peers"].items():
        ratio = "" if peer == "ours" else f"; ours is {run['ours_is_times']:.2f} x"
        yield peer, _run(run) + ratio


def _run(run: Result) -> str:
    compiled = f", {run['compile_s']:.0f} s of compilation not included" if run["compile_s"] else ""
    return (
        f"{run['tokens_per_s']:,.0f} tok/s ({run['dtype']}, {run['batch']} at once, "
        f"{run['seconds']:.1f} s{compiled})"
    )


def _same(result: Result) -> str:
    return "" if result["same_tokens"] else " (NOT THE SAME TOKENS)"
