"""Some broken nights, and proof that the simulator would tell. `make simulate` plays more."""

from collections.abc import Iterator, Sequence
from unittest import mock

import pytest

from rgpipeline.io.committed_rows import CommittedRows, Entry
from rgpipeline.io.parts import part_numbers
from rgpipeline.storage.store import Store
from tests.simulator.books import Broken
from tests.simulator.planning import plan
from tests.simulator.play import play

NIGHTS = 240


@pytest.mark.parametrize("first", range(0, NIGHTS, 40))
def test_every_row_is_published_once_whatever_happens(first: int) -> None:
    for seed in range(first, first + 40):
        play(seed)


def test_the_same_seed_is_the_same_night() -> None:
    assert play(7).counts() == play(7).counts()


def broken_nights(seeds: range) -> Iterator[str]:
    for seed in seeds:
        try:
            play(seed)
        except Broken as error:
            yield str(error)


def test_a_log_that_publishes_what_is_there_would_be_caught() -> None:
    def everything(cover: CommittedRows, entries: Sequence[Entry]) -> list[int]:
        return list(range(len(entries)))

    with mock.patch.object(CommittedRows, "missing", everything):
        assert any("comes after its end" in message for message in broken_nights(range(40)))


def test_a_log_that_ends_at_a_removed_part_would_be_caught() -> None:
    def up_to_a_gap(store: Store, shard: int) -> list[int]:
        return [n for index, n in enumerate(part_numbers(store, shard)) if index == n]

    with mock.patch("rgpipeline.io.log.part_numbers", up_to_a_gap):
        assert any("follows part" in message for message in broken_nights(range(40)))


def test_a_driver_that_loses_shards_would_be_caught() -> None:
    with mock.patch("rgpipeline.dispatch.work_queue.WorkQueue.release"):
        assert any("waits nowhere" in message for message in broken_nights(range(40)))


def test_hosts_are_kept_busy_to_the_end() -> None:
    small = plan(hosts=16, rows=800_000)
    assert small.ideal_s / small.virtual_s > 0.8
