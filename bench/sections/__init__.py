"""The sections of the bench: each measures one thing, and says in lines what it found.

A module for each theme. A new section is a module here, and an entry of `SECTIONS`.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from bench.peer_set import PeerSet
from bench.report import Line, Result
from bench.sections import (
    cached_prefix,
    compared_peers,
    constrained_output,
    long_sequences,
    machine_limit,
    mixed_rows,
    read_texts,
    worker_processes,
)


class Section(NamedTuple):
    """One section."""

    measure: Callable[[PeerSet], Result]  # a dict for JSON
    lines: Callable[[Result], Iterator[Line]]  # of what it returned


def _compared(workload: str) -> Section:
    return Section(partial(compared_peers.measure, name=workload), compared_peers.lines)


SECTIONS = {
    "limit": Section(machine_limit.measure, machine_limit.lines),
    "fixed": _compared("fixed"),
    "mixed": Section(mixed_rows.measure, mixed_rows.lines),
    "long_prompt": _compared("long_prompt"),
    "shared_prefix": Section(cached_prefix.measure, cached_prefix.lines),
    "texts": Section(read_texts.texts, read_texts.texts_lines),
    "choices": Section(read_texts.choices, read_texts.choices_lines),
    "states": Section(read_texts.states, read_texts.states_lines),
    "long_output": Section(long_sequences.long_output, long_sequences.long_output_lines),
    "workers": Section(worker_processes.workers, worker_processes.workers_lines),
    "structured": Section(constrained_output.measure, constrained_output.lines),
    "start": Section(worker_processes.start, worker_processes.start_lines),
    "figure_1a": Section(long_sequences.figure_1a, long_sequences.figure_1a_lines),
}
