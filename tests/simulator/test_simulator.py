"""Some scenarios, and proof that the simulator finds faults. `make simulate` runs more."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from unittest import mock

import pytest

from rgpipeline.io.committed_rows import CommittedRows, Entry
from rgpipeline.io.parts import part_numbers
from rgpipeline.storage.store import Store
from tests.simulator.driver_load import measure_load
from tests.simulator.invariants import InvariantBroken
from tests.simulator.simulation import simulate

SCENARIOS = 240


@pytest.mark.parametrize("first", range(0, SCENARIOS, 40))
def test_every_row_is_published_once_whatever_happens(first: int) -> None:
    for seed in range(first, first + 40):
        simulate(seed)


def test_the_same_seed_is_the_same_scenario_in_every_process() -> None:
    code = (
        "from tests.simulator.__main__ import simulate_batch; print(simulate_batch(range(72, 95)))"
    )
    command = [sys.executable, "-c", code]
    first, second = (
        subprocess.run(
            command,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    )
    assert first == second
    assert b"parts" in first


def broken_invariants(seeds: range) -> Iterator[str]:
    for seed in seeds:
        try:
            simulate(seed)
        except InvariantBroken as error:
            yield str(error)


def test_a_log_that_publishes_what_is_there_would_be_caught() -> None:
    def everything(cover: CommittedRows, entries: Sequence[Entry]) -> list[int]:
        return list(range(len(entries)))

    with mock.patch.object(CommittedRows, "missing", everything):
        assert any("comes after its end" in message for message in broken_invariants(range(40)))


def test_a_log_that_ends_at_a_removed_part_would_be_caught() -> None:
    def up_to_a_gap(store: Store, shard: int) -> list[int]:
        return [n for index, n in enumerate(part_numbers(store, shard)) if index == n]

    with mock.patch("rgpipeline.io.log.part_numbers", up_to_a_gap):
        assert any("follows part" in message for message in broken_invariants(range(40)))


def test_a_driver_that_loses_shards_would_be_caught() -> None:
    with mock.patch("rgpipeline.dispatch.work_queue.WorkQueue.release"):
        assert any("waits nowhere" in message for message in broken_invariants(range(40)))


def test_hosts_are_kept_busy_to_the_end() -> None:
    small = measure_load(hosts=16, rows=800_000)
    assert small.ideal_s / small.virtual_s > 0.8
