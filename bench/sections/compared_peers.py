"""A workload with every peer: this engine, the official sampler, Hugging Face."""

from collections.abc import Iterator

from bench.peer_set import OURS, PeerSet
from bench.report import Line, Result, run_line, run_result
from bench.workloads import workload


def measure(peers: PeerSet, name: str) -> Result:
    """A workload with every peer, each in its fastest way."""
    work = workload(name, peers.quick)
    done = {peer: run_result(work, *peers.run(peer, work)) for peer in peers.names}
    ours = done[OURS]["tokens_per_s"]
    for peer in peers.names:
        done[peer]["ours_is_times"] = ours / done[peer]["tokens_per_s"]
    return {"rows": len(work.rows), "new_tokens": work.new_tokens, "peers": done}


def lines(result: Result) -> Iterator[Line]:
    """A line for each peer."""
    for peer, run in result["peers"].items():
        ratio = "" if peer == "ours" else f"; ours is {run['ours_is_times']:.2f} x"
        yield peer, run_line(run) + ratio
