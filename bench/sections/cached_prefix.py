"""Prompts with a common prefix."""

from collections.abc import Iterator

from bench.peer_set import OURS, PeerSet
from bench.report import Line, Result, run_line, run_result, unless_same
from bench.workloads import workload


def measure(peers: PeerSet) -> Result:
    """Prompts with a common prefix, with and without the prefix cache."""
    work = workload("shared_prefix", peers.quick)
    plan, kept = peers.run(OURS, work)
    _, anew = peers.run(OURS, work, prefix_cache=False)
    same = kept.tokens == anew.tokens
    return {
        "with_cache": run_result(work, plan, kept),
        "without_cache": run_result(work, plan, anew),
        "times": anew.seconds / kept.seconds,
        "same_tokens": same,
    }


def lines(result: Result) -> Iterator[Line]:
    """Both runs, and the ratio of their speeds."""
    for key in ("with_cache", "without_cache"):
        yield key.replace("_", " "), run_line(result[key])
    yield "with / without", f"{result['times']:.2f} x{unless_same(result)}"
