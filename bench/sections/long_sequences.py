"""Long sequences: whether speed and memory stay the same."""

from collections.abc import Iterator

from bench.peer_set import HF, OFFICIAL, OURS, PeerSet
from bench.peers.exchange import Run
from bench.planning import promising
from bench.report import Line, Result, run_line, run_result
from bench.workloads import workload


def long_output(peers: PeerSet) -> Result:
    """Long sequences: speed and memory near their end, compared with those near their start.

    In a process of its own with one engine, like a worker. In a process where rates were measured,
    the kernel fills the memory that earlier engines freed with huge pages, even when it is idle.
    """
    work = workload("long_output", peers.quick)
    with peers.another(OURS) as process:
        plan, run = peers.run(OURS, work, process)
    length, count = work.rows[0].new, len(work.rows)
    early, late = (1024, 2048), (length - 1024, length)
    if peers.quick:
        early, late = (length // 4, length // 2), (length // 2, length)
    rates = [_rate(run, start * count, end * count) for start, end in (early, late)]
    resident = [(tokens, rss) for _, tokens, rss in run.timeline if tokens >= early[0] * count]
    memory = [rss for _, rss in resident]
    return {
        **run_result(work, plan, run),
        "early_tokens_per_s": rates[0],
        "late_tokens_per_s": rates[1],
        "late_of_early": rates[1] / rates[0],
        "memory_growth": memory[-1] / memory[0] - 1,
        "memory_spread": max(memory) / min(memory) - 1,
        "resident_bytes": resident[:: len(resident) // 64 or 1],  # (tokens by then, bytes)
    }


def _rate(run: Run, start: int, end: int) -> float:
    """Tokens a second from token number `start` to number `end`."""
    inside = [(at, tokens) for at, tokens, _ in run.timeline if start <= tokens <= end]
    (first_s, first), (last_s, last) = inside[0], inside[-1]
    return (last - first) / (last_s - first_s)


def long_output_lines(result: Result) -> Iterator[Line]:
    """The whole run, then its end compared with its start."""
    yield "whole", run_line(result)
    early, late = result["early_tokens_per_s"], result["late_tokens_per_s"]
    yield "late / early", f"{late:,.0f} / {early:,.0f} tok/s = {result['late_of_early']:.3f}"
    growth, spread = result["memory_growth"], result["memory_spread"]
    yield "resident memory", f"{growth:+.2%} at the end, {spread:.2%} between extremes"


def figure_1a(peers: PeerSet) -> Result:
    """Tokens a second against the generated length: a fixed state, and a cache that grows."""
    batch, prompt = (2, 64) if peers.quick else (8, 2048)
    lengths = [64, 128, 256] if peers.quick else [256, 1024, 2048, 4096]
    names = [name for name in peers.names if name in (OURS, OFFICIAL)]
    names += ["gemma"] if HF in peers.names else []
    curves = {}
    for peer in names:
        setup = promising(peers.process(peer), batch)[0]
        step_s = peers.process(peer).curve(setup, prompt, lengths).step_s
        curves[peer] = {"dtype": setup.dtype, "tokens_per_s": [batch / s for s in step_s]}
    return {"batch": batch, "prompt": prompt, "lengths": lengths, "curves": curves}


def figure_1a_lines(result: Result) -> Iterator[Line]:
    """A line for each peer: its speed at each length."""
    yield "tokens", "".join(f"{length:>9,}" for length in result["lengths"])
    for peer, curve in result["curves"].items():
        rates = "".join(f"{rate:>9,.0f}" for rate in curve["tokens_per_s"])
        yield f"{peer} {curve['dtype']}", rates
