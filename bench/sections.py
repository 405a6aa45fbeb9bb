"""The sections of the bench: each function measures one thing and returns a dict for JSON."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

from bench import ROOT
from bench.grammars import constrained_rows, constraints
from bench.model import CONFIGS, model_folder
from bench.peer_set import HF, OURS, PeerSet
from bench.peers.exchange import Rates, Run, Setup
from bench.planning import DTYPES, Plan
from bench.processes import Process, environment
from bench.vocabulary import write_tokenizer
from bench.workloads import Workload, workload

Result = dict[str, Any]
_ROUNDS = 3


def limit(peers: PeerSet) -> Result:
    """Decode and prefill, and in alternation their matrix multiplies alone.

    The limit is `x @ W.T`, the usual form; the fastest is the faster of that and `W @ x.T`.
    """
    batch = 4 if peers.quick else 64
    rows = []
    for dtype in DTYPES:
        setup = Setup(dtype, batch)
        names = (OURS, "matmuls", "matmuls_transposed")
        turns = [
            [peers.process(name).measure(setup) for name in names]
            for _ in range(1 if peers.quick else _ROUNDS)
        ]
        ours, plain, transposed = (_best([turn[i] for turn in turns]) for i in range(len(names)))
        fastest = _best([plain, transposed])
        rows.append(
            {
                "dtype": dtype,
                "slots": batch,
                "decode_tokens_per_s": batch / ours.step_s,
                "decode_limit": batch / plain.step_s,
                "decode_of_limit": plain.step_s / ours.step_s,
                "decode_of_fastest": fastest.step_s / ours.step_s,
                "prefill_tokens_per_s": ours.prefill_tokens_per_s,
                "prefill_limit": plain.prefill_tokens_per_s,
                "prefill_of_limit": ours.prefill_tokens_per_s / plain.prefill_tokens_per_s,
                "prefill_of_fastest": ours.prefill_tokens_per_s / fastest.prefill_tokens_per_s,
            }
        )
    return {"rows": rows}


def _best(rates: list[Rates]) -> Rates:
    return Rates(
        max(rate.prefill_tokens_per_s for rate in rates), min(rate.step_s for rate in rates)
    )


def against_peers(peers: PeerSet, name: str) -> Result:
    """A workload with every peer, each in its fastest way."""
    work = _workload(peers, name)
    done = {peer: _run_result(work, *peers.run(peer, work)) for peer in peers.names}
    ours = done[OURS]["tokens_per_s"]
    for peer in peers.names:
        done[peer]["ours_is_times"] = ours / done[peer]["tokens_per_s"]
    return {"rows": len(work.rows), "new_tokens": work.new_tokens, "peers": done}


def shared_prefix(peers: PeerSet) -> Result:
    """Prompts with a common prefix, with and without the prefix cache."""
    work = _workload(peers, "shared_prefix")
    plan, kept = peers.run(OURS, work)
    _, anew = peers.run(OURS, work, prefix_cache=False)
    same = kept.tokens == anew.tokens
    return {
        "with_cache": _run_result(work, plan, kept),
        "without_cache": _run_result(work, plan, anew),
        "times": anew.seconds / kept.seconds,
        "same_tokens": same,
    }


def long_output(peers: PeerSet) -> Result:
    """Long sequences: speed and memory near their end, compared with those near their start.

    In a process of its own with one engine, like a worker. In a process where rates were measured,
    the kernel fills the memory that earlier engines freed with huge pages, even when it is idle.
    """
    work = _workload(peers, "long_output")
    with peers.another(OURS) as process:
        plan, run = peers.run(OURS, work, process)
    length, count = work.rows[0].new, len(work.rows)
    early, late = (1024, 5120), (length - 4096, length)
    if peers.quick:
        early, late = (length // 4, length // 2), (length // 2, length)
    rates = [_rate(run, start * count, end * count) for start, end in (early, late)]
    resident = [(tokens, rss) for _, tokens, rss in run.timeline if tokens >= early[0] * count]
    memory = [rss for _, rss in resident]
    return {
        **_run_result(work, plan, run),
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


def workers(peers: PeerSet) -> Result:
    """One worker on all cores, compared with one worker for each core."""
    work = _workload(peers, "mixed")
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


def structured(peers: PeerSet) -> Result:
    """Rows with grammars, compared with rows of the same lengths without any."""
    name = "tiny" if peers.quick else "256k"
    model, vocab = model_folder(name, peers.out), CONFIGS[name].vocab_size
    write_tokenizer(model, vocab)
    setup = Setup("float32", 4 if peers.quick else 64)
    found = {}
    with Process("bench.peers.constrained", model, peers.out) as process:
        for label, grammars in constraints(setup.batch).items():
            rows = [(row.prompt, row.new) for row in constrained_rows(vocab, len(grammars))]
            process.run(setup, [rows[:1]], structured=grammars[:1])  # compiles, as does the next
            process.run(setup, [rows[:1]])
            turns = []
            for _ in range(1 if peers.quick else _ROUNDS):
                bound = process.run(setup, [rows], structured=grammars)
                same = [
                    (prompt, max(1, len(tokens)))
                    for (prompt, _), tokens in zip(rows, bound.tokens, strict=True)
                ]
                turns.append((bound, process.run(setup, [same])))
            tokens = sum(map(len, bound.tokens))
            bound_s, free_s = (
                min(run.seconds for run in runs) for runs in zip(*turns, strict=True)
            )
            found[label] = {
                "rows": len(rows),
                "tokens": tokens,
                "tokens_per_s": tokens / bound_s,
                "free_tokens_per_s": tokens / free_s,
                "of_free": free_s / bound_s,
            }
    return {"vocabulary": vocab, "slots": setup.batch, "grammars": found}


def start(peers: PeerSet) -> Result:
    """Seconds from a process's start to its first token, with and without compilation."""
    setup = peers.plan(OURS, _workload(peers, "fixed")).setup
    with TemporaryDirectory() as cache:
        cold, warm = (_first_token_s(peers, setup, cache) for _ in range(2))
    return {"dtype": setup.dtype, "slots": setup.batch, "cold_s": cold, "warm_s": warm}


def _first_token_s(peers: PeerSet, setup: Setup, cache: str) -> float:
    command = [sys.executable, "-m", "bench.peers.first_token", "--model", str(peers.model)]
    command += ["--cache", cache, "--dtype", setup.dtype, "--slots", str(setup.batch)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=ROOT, env=environment())
    return float(done.stdout)


def figure_1a(peers: PeerSet) -> Result:
    """Tokens a second against the generated length: a fixed state, and a cache that grows."""
    batch, prompt = (2, 64) if peers.quick else (8, 2048)
    lengths = [64, 128, 256] if peers.quick else [256, 1024, 2048, 4096, 8192, 12288, 16384]
    names = [name for name in peers.names if name != HF]
    names += ["gemma"] if HF in peers.names else []
    curves = {}
    for peer in names:
        setup = Setup(_faster_dtype(peers, peer, batch), batch)
        step_s = peers.process(peer).curve(setup, prompt, lengths).step_s
        curves[peer] = {"dtype": setup.dtype, "tokens_per_s": [batch / s for s in step_s]}
    return {"batch": batch, "prompt": prompt, "lengths": lengths, "curves": curves}


def _faster_dtype(peers: PeerSet, peer: str, batch: int) -> str:
    process = peers.process(peer)

    def step_s(dtype: str) -> float:
        setup = Setup(dtype, batch)
        if peer == "gemma":
            return process.curve(setup, 64, [64]).step_s[0]
        return process.measure(setup).step_s

    return min(DTYPES, key=step_s)


def _workload(peers: PeerSet, name: str) -> Workload:
    vocab = CONFIGS["tiny" if peers.quick else "183m"].vocab_size
    return workload(name, vocab, peers.quick)


def _run_result(work: Workload, plan: Plan, run: Run) -> Result:
    return {
        "dtype": plan.setup.dtype,
        "batch": plan.setup.batch,
        "seconds": run.seconds,
        "compile_s": run.compile_s,
        "tokens_per_s": work.new_tokens / run.seconds,
    }


SECTIONS: dict[str, Callable[[PeerSet], Result]] = {
    "limit": limit,
    "fixed": partial(against_peers, name="fixed"),
    "mixed": partial(against_peers, name="mixed"),
    "long_prompt": partial(against_peers, name="long_prompt"),
    "shared_prefix": shared_prefix,
    "long_output": long_output,
    "workers": workers,
    "structured": structured,
    "start": start,
    "figure_1a": figure_1a,
}
