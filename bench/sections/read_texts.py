"""Texts that are read and not written: embeddings, scores, choices, and states of long texts."""

import json
import subprocess
import sys
from collections.abc import Iterator

from bench import ROOT
from bench.peer_set import PeerSet
from bench.processes import environment
from bench.report import Line, Result, unless_same


def texts(peers: PeerSet) -> Result:
    """`embed` and scores against prefill of the same tokens, and against their programs alone."""
    few = ("--slots", "4", "--texts", "3", "--rounds", "1")
    return _measured(peers, "texts", *(few if peers.quick else ("--texts", "16", "--rounds", "2")))


def texts_lines(result: Result) -> Iterator[Line]:
    """A line for each kind; the ratios of CPU time in brackets."""
    for kind, found in result["kinds"].items():
        of_prefill, cpu = found["of_prefill"], found["of_prefill_cpu"]
        ratio = "" if kind == "prefill" else f"{of_prefill:.2f} ({cpu:.2f}) of prefill, "
        programs = f"{found['of_programs']:.2f} ({found['of_programs_cpu']:.2f}) of its programs"
        yield kind, f"{found['tokens_per_s']:,.0f} tok/s, {ratio}{programs} alone"


def choices(peers: PeerSet) -> Result:
    """Four choices after one prompt against four pairs."""
    few = ("--slots", "4", "--prompts", "1", "--length", "64", "--rounds", "1")
    many = ("--prompts", "4", "--rounds", "2")
    return _measured(peers, "choices", *(few if peers.quick else many))


def choices_lines(result: Result) -> Iterator[Line]:
    """How many times as fast; the ratio of CPU time in brackets."""
    remark = "" if result["same_scores"] else " (NOT THE SAME SCORES)"
    for name, label in (("times", "one after the other"), ("times_in_a_job", "all in one job")):
        yield label, f"{result[name]:.1f} x ({result[f'{name}_cpu']:.1f} x) pairs{remark}"


def states(peers: PeerSet) -> Result:
    """Questions on a long text: from its state, by the prefix cache, and each read anew.

    With the demo model: 183 million parameters would take half an hour.
    """
    few = ("--tokens", "1000", "--questions", "4", "--new", "4")
    many = ("--model", "demo", "--tokens", "20000")
    anew = ("--anew", "2", "--rounds", "1" if peers.quick else "2")
    return _measured(peers, "states", *(few if peers.quick else many), *anew)


def states_lines(result: Result) -> Iterator[Line]:
    """The state against reading anew, and against the cache; ratios of CPU time in brackets."""
    times, cpu = result["times_faster_than_anew"], result["times_faster_than_anew_cpu"]
    whole = f"whole prompts ({result['anew_measured']} measured)"
    yield "from the state", f"{times:.1f} x ({cpu:.1f} x) {whole}{unless_same(result)}"
    once, asked = result["read_once_s"], result["from_state_s"]
    ratio = f"{result['of_prefix_cache']:.2f} ({result['of_prefix_cache_cpu']:.2f})"
    cache = f"{result['by_prefix_cache_s']:.2f} s by the prefix cache"
    yield "read once, then asked", f"{once:.2f} + {asked:.2f} s; {cache} = {ratio}"


def _measured(peers: PeerSet, module: str, *arguments: str) -> Result:
    """What `python -m bench.<module>` prints."""
    command = [sys.executable, "-m", f"bench.{module}", "--model", str(peers.model), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=ROOT, env=environment())
    found: Result = json.loads(done.stdout)
    return found
