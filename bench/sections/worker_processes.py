"""What depends on processes: several workers on one machine, and a worker's start."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.peer_set import OURS, PeerSet
from bench.processes import first_token
from bench.report import Line, Result, unless_same
from bench.workloads import workload


def workers(peers: PeerSet) -> Result:
    """One worker on all cores, compared with one worker for each core."""
    work = workload("mixed", peers.quick)
    plan = peers.plan(OURS, work)
    (rows,) = plan.batches
    cores = sorted(os.sched_getaffinity(0))
    alone = peers.process(OURS).run(plan.setup, [rows])
    with ExitStack() as stack:
        each = [stack.enter_context(peers.another(OURS, cores=str(core))) for core in cores]
        for process in each:  # loads and compiles
            process.run(plan.setup, [rows[:1]])
        for index, process in enumerate(each):
            process.start_run(plan.setup, [rows[index :: len(cores)]])
        runs = [process.finish_run() for process in each]
    apart = [runs[row % len(cores)].tokens[row // len(cores)] for row in range(len(rows))]
    seconds = max(run.seconds for run in runs)
    return {
        "workers": len(cores),
        "one_tokens_per_s": work.new_tokens / alone.seconds,
        "many_tokens_per_s": work.new_tokens / seconds,
        "many_of_one": alone.seconds / seconds,
        "same_tokens": apart == alone.tokens,
    }


def workers_lines(result: Result) -> Iterator[Line]:
    """The rate of many workers, of one, and their ratio."""
    many, one = result["many_tokens_per_s"], result["one_tokens_per_s"]
    label = f"{result['workers']} workers / one"
    ratio = f"{result['many_of_one']:.2f}{unless_same(result)}"
    yield label, f"{many:,.0f} / {one:,.0f} tok/s = {ratio}"


def start(peers: PeerSet) -> Result:
    """Seconds from a process's start to its first token, with and without compilation."""
    setup = peers.plan(OURS, workload("fixed", peers.quick)).setup
    with TemporaryDirectory() as cache:
        cold, warm = (first_token(peers.model, setup, Path(cache)) for _ in range(2))
    seconds = {"cold_s": cold["seconds"], "warm_s": warm["seconds"]}
    return {"dtype": setup.dtype, "slots": setup.batch, **seconds}


def start_lines(result: Result) -> Iterator[Line]:
    """Seconds to the first token."""
    yield "first token", f"{result['warm_s']:.1f} s ({result['cold_s']:.1f} s with compilation)"
