"""What the bench measures, one function each; all return what becomes JSON."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

from bench.field import HF, OURS, Field
from bench.folders import ROOT
from bench.model import CONFIGS
from bench.peers.exchange import Rates, Run, Setup
from bench.planning import DTYPES, Plan
from bench.processes import environment
from bench.workloads import Workload, workload

Result = dict[str, Any]
_ROUNDS = 3


def limit(field: Field) -> Result:
    """Decode and prefill beside their matrix multiplies alone, turn by turn.

    The limit is `x @ W.T`, as models are written; beside it, the faster of that and `W @ x.T`.
    """
    batch = 4 if field.quick else 64
    rows = []
    for dtype in DTYPES:
        setup = Setup(dtype, batch)
        peers = (OURS, "matmuls", "matmuls_left")
        turns = [
            [field.process(peer).measure(setup) for peer in peers]
            for _ in range(1 if field.quick else _ROUNDS)
        ]
        ours, written, turned = (_best([turn[i] for turn in turns]) for i in range(len(peers)))
        fastest = _best([written, turned])
        rows.append(
            {
                "dtype": dtype,
                "slots": batch,
                "decode_tokens_per_s": batch / ours.step_s,
                "decode_limit": batch / written.step_s,
                "decode_of_limit": written.step_s / ours.step_s,
                "decode_of_fastest": fastest.step_s / ours.step_s,
                "prefill_tokens_per_s": ours.prefill_tokens_per_s,
                "prefill_limit": written.prefill_tokens_per_s,
                "prefill_of_limit": ours.prefill_tokens_per_s / written.prefill_tokens_per_s,
                "prefill_of_fastest": ours.prefill_tokens_per_s / fastest.prefill_tokens_per_s,
            }
        )
    return {"rows": rows}


def _best(rates: list[Rates]) -> Rates:
    return Rates(
        max(rate.prefill_tokens_per_s for rate in rates), min(rate.step_s for rate in rates)
    )


def against_peers(field: Field, name: str) -> Result:
    """A workload by everybody, each in its best way."""
    work = _workload(field, name)
    done = {peer: _told(work, *field.run(peer, work)) for peer in field.peers}
    ours = done[OURS]["tokens_per_s"]
    for peer in field.peers:
        done[peer]["ours_is_times"] = ours / done[peer]["tokens_per_s"]
    return {"rows": len(work.rows), "new_tokens": work.new_tokens, "peers": done}


def shared_prefix(field: Field) -> Result:
    """Prompts with a common head, with and without keeping its state."""
    work = _workload(field, "shared_prefix")
    plan, kept = field.run(OURS, work)
    _, anew = field.run(OURS, work, prefix_cache=False)
    same = kept.tokens == anew.tokens
    return {
        "with_cache": _told(work, plan, kept),
        "without_cache": _told(work, plan, anew),
        "times": anew.seconds / kept.seconds,
        "same_tokens": same,
    }


def long_output(field: Field) -> Result:
    """Long sequences: the pace and the memory near their end, beside those near their start.

    In a process of its own that opens one engine, as a worker does. Where rates were measured, the
    kernel fills the holes that earlier engines have left with huge pages, even while nothing runs.
    """
    work = _workload(field, "long_output")
    with field.another(OURS) as process:
        plan, run = field.run(OURS, work, process)
    length, count = work.rows[0].new, len(work.rows)
    early, late = (1024, 5120), (length - 4096, length)
    if field.quick:
        early, late = (length // 4, length // 2), (length // 2, length)
    rates = [_rate(run, start * count, end * count) for start, end in (early, late)]
    resident = [(tokens, rss) for _, tokens, rss in run.timeline if tokens >= early[0] * count]
    memory = [rss for _, rss in resident]
    return {
        **_told(work, plan, run),
        "early_tokens_per_s": rates[0],
        "late_tokens_per_s": rates[1],
        "late_of_early": rates[1] / rates[0],
        "memory_growth": memory[-1] / memory[0] - 1,
        "memory_spread": max(memory) / min(memory) - 1,
        "resident_bytes": resident[:: len(resident) // 64 or 1],  # (tokens by then, bytes)
    }


def _rate(run: Run, start: int, end: int) -> float:
    """Tokens a second while the `start`th to the `end`th token came."""
    inside = [(at, tokens) for at, tokens, _ in run.timeline if start <= tokens <= end]
    (first_s, first), (last_s, last) = inside[0], inside[-1]
    return (last - first) / (last_s - first_s)


def workers(field: Field) -> Result:
    """One worker on all cores beside one worker for each core, every one on its own."""
    work = _workload(field, "mixed")
    plan = field.plan(OURS, work)
    (rows,) = plan.batches
    cores = sorted(os.sched_getaffinity(0))
    alone = field.process(OURS).run(plan.setup, [rows])
    with ExitStack() as stack:
        each = [stack.enter_context(field.another(OURS, cores=str(core))) for core in cores]
        for process in each:  # so that nothing is loaded or compiled while it counts
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


def start(field: Field) -> Result:
    """From a process's start to its first token, with an empty cache of programs and a full one."""
    setup = field.plan(OURS, _workload(field, "fixed")).setup
    with TemporaryDirectory() as cache:
        cold, warm = (_first_token_s(field, setup, cache) for _ in range(2))
    return {"dtype": setup.dtype, "slots": setup.batch, "cold_s": cold, "warm_s": warm}


def _first_token_s(field: Field, setup: Setup, cache: str) -> float:
    command = [sys.executable, "-m", "bench.peers.first_token", "--model", str(field.model)]
    command += ["--cache", cache, "--dtype", setup.dtype, "--slots", str(setup.batch)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=ROOT, env=environment())
    return float(done.stdout)


def figure_1a(field: Field) -> Result:
    """Tokens a second along the generated length: a state of one size, and a cache that grows."""
    batch, prompt = (2, 64) if field.quick else (8, 2048)
    lengths = [64, 128, 256] if field.quick else [256, 1024, 2048, 4096, 8192, 12288, 16384]
    peers = [peer for peer in field.peers if peer != HF]
    peers += ["gemma"] if HF in field.peers else []
    curves = {}
    for peer in peers:
        setup = Setup(_faster_dtype(field, peer, batch), batch)
        step_s = field.process(peer).curve(setup, prompt, lengths).step_s
        curves[peer] = {"dtype": setup.dtype, "tokens_per_s": [batch / s for s in step_s]}
    return {"batch": batch, "prompt": prompt, "lengths": lengths, "curves": curves}


def _faster_dtype(field: Field, peer: str, batch: int) -> str:
    process = field.process(peer)

    def step_s(dtype: str) -> float:
        setup = Setup(dtype, batch)
        if peer == "gemma":
            return process.curve(setup, 64, [64]).step_s[0]
        return process.measure(setup).step_s

    return min(DTYPES, key=step_s)


def _workload(field: Field, name: str) -> Workload:
    vocab = CONFIGS["tiny" if field.quick else "183m"].vocab_size
    return workload(name, vocab, field.quick)


def _told(work: Workload, plan: Plan, run: Run) -> Result:
    return {
        "dtype": plan.setup.dtype,
        "batch": plan.setup.batch,
        "seconds": run.seconds,
        "compile_s": run.compile_s,
        "tokens_per_s": work.new_tokens / run.seconds,
    }


SECTIONS: dict[str, Callable[[Field], Result]] = {
    "limit": limit,
    "fixed": partial(against_peers, name="fixed"),
    "mixed": partial(against_peers, name="mixed"),
    "long_prompt": partial(against_peers, name="long_prompt"),
    "shared_prefix": shared_prefix,
    "long_output": long_output,
    "workers": workers,
    "start": start,
    "figure_1a": figure_1a,
}
