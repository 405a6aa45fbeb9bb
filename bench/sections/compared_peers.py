"""A workload with every peer: this engine, the official sampler, Hugging Face, MLX."""

from collections.abc import Iterator

from bench.peer_set import OURS, PeerSet
from bench.report import Line, Result, expected_result, run_line, run_result
from bench.workloads import Workload, workload


def measure(peers: PeerSet, name: str) -> Result:
    """A workload with every peer, each in its fastest way.

    A peer that would take too long by its rates is not run; what they say is the result.
    """
    work = workload(name, peers.quick)
    done = {peer: _run(peers, peer, work) for peer in peers.names}
    ours = done[OURS]["tokens_per_s"]
    for peer in peers.names:
        done[peer]["ours_is_times"] = ours / done[peer]["tokens_per_s"]
    return {"rows": len(work.rows), "new_tokens": work.new_tokens, "peers": done}


def _run(peers: PeerSet, peer: str, work: Workload) -> Result:
    plan = peers.plan(peer, work)
    if peer != OURS and plan.seconds > peers.longest_s:
        return expected_result(work, plan)
    return run_result(work, *peers.run(peer, work))


def lines(result: Result) -> Iterator[Line]:
    """A line for each peer."""
    for peer, run in result["peers"].items():
        ratio = "" if peer == "ours" else f"; ours is {run['ours_is_times']:.2f} x"
        yield peer, run_line(run) + ratio
