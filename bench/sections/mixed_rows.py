"""Rows of very different lengths: every peer, and how near we come to our own rates."""

import heapq
from collections.abc import Iterator, Sequence

from bench.peer_set import OURS, PeerSet
from bench.peers.exchange import Rates, Setup
from bench.report import Line, Result
from bench.sections import compared_peers
from bench.workloads import Workload, workload


def measure(peers: PeerSet) -> Result:
    """The workload with every peer; and ours against prefill and decode with full calls.

    Those are measured before the run and after it, and the faster time counts.
    """
    work = workload("mixed", peers.quick)
    result = compared_peers.measure(peers, "mixed")
    ours = result["peers"][OURS]
    setup = Setup(ours["dtype"], ours["batch"])
    rates = [peers.rates(OURS)[setup], peers.process(OURS).measure(setup)]
    return {**result, **of_the_machine(work, setup.batch, rates, ours["seconds"])}


def of_the_machine(
    work: Workload, slots: int, rates: Sequence[Rates], seconds: float
) -> dict[str, float]:
    """The least time for a workload's tokens over the time that it took.

    Args:
      work: prompts to read and tokens to write.
      slots: how many rows a decode step has.
      rates: of full prefill calls, and of decode steps with all slots busy.
      seconds: that the workload took.

    Returns:
      `of_machine`: as if all calls were full. `of_machine_with_tail`: the last steps, when fewer
      rows than slots are left, count as whole steps; no order of the rows has fewer of them.
    """
    read_s = work.prompt_tokens / max(rate.prefill_tokens_per_s for rate in rates)
    step_s = min(rate.step_s for rate in rates)
    full = work.new_tokens / slots
    return {
        "of_machine": (read_s + full * step_s) / seconds,
        "of_machine_with_tail": (read_s + steps([r.new for r in work.rows], slots) * step_s)
        / seconds,
    }


def steps(lengths: Sequence[int], slots: int) -> int:
    """Decode steps until all rows are written, the longest first."""
    ends = [0] * slots
    for length in sorted(lengths, reverse=True):
        heapq.heapreplace(ends, ends[0] + length)
    return max(ends)


def lines(result: Result) -> Iterator[Line]:
    """Those of the peers, and the share of the machine."""
    yield from compared_peers.lines(result)
    whole, tail = result["of_machine"], result["of_machine_with_tail"]
    yield (
        "of the machine",
        f"{whole:.2f} of our own full calls, {tail:.2f} with the last rows' tail",
    )
