"""A row that kills its worker is found, and only that row."""

import pytest

from rgpipeline.dispatch import JobEnded, Policy, StartWorker, Tick, WorkerDied
from tests.dispatch.hand import Game, shards


def play_against(
    poison: tuple[int, int], count: int = 3, raised_at: str = ""
) -> tuple[Game, list[tuple[int, int]]]:
    """Workers finish whatever they hold, one unit a report, unless the poison row is in it.

    It kills the process, or has the engine raise an exception.
    """
    game, marked = Game(shards(count), workers=1), []
    while not game.said(JobEnded):
        game.now += 100.0
        game.tell(Tick(game.now))
        worker = game.said(StartWorker)[-1].worker
        if worker not in game.beats:
            game.ready(worker)
        key = game.held[worker][0]
        given_up = game.failed[worker][key]
        marked += [(key.shard, row) for row in given_up]
        in_it = key.shard == poison[0] and key.start <= poison[1] < key.stop
        if in_it and not given_up:
            game.says(worker, at=[(key.shard, row) for row in range(key.start, key.stop)])
            if raised_at:
                facts = {"error": "odd", "fault": "worker", "in_engine": True}
                game.says(worker, raised_at=raised_at, **facts)
            else:
                game.crashes(worker)
        else:
            game.finishes(worker, key, failed=len(given_up))
    return game, marked


@pytest.mark.parametrize("raised_at", ["", "ValueError at a.py:1"], ids=["killed", "raised"])
@pytest.mark.parametrize("count", [1, 2, 3, 6])
@pytest.mark.parametrize("row", [0, 7, 15])
def test_exactly_the_poison_row_is_convicted(row: int, count: int, raised_at: str) -> None:
    shard = min(1, count - 1)
    game, marked = play_against((shard, row), count, raised_at)
    assert marked == [(shard, row)]
    assert game.said(JobEnded) == [JobEnded("finished")]


def test_every_other_row_is_finished() -> None:
    work = play_against((1, 5))[0].dispatch.work
    assert (work.shards_finished, work.rows_finished, work.rows_failed) == (3, 48, 1)


def test_a_suspected_range_is_a_workers_only_work() -> None:
    game = Game(shards(4), workers=1)
    worker = "w0"
    for _ in range(2):
        game.ready(worker)
        game.says(worker, at=[(0, 3)])
        worker = game.crashes(worker)
    game.ready(worker)
    assert len(game.held[worker]) == 1
    assert game.held[worker][0].rows == 8


def test_a_worker_that_leaves_its_node_marks_no_row() -> None:
    game = Game(shards(1), workers=1, policy=Policy(failures_to_suspect=1))
    game.ready("w0")
    game.says("w0", at=[(0, 3)])
    game.tell(WorkerDied(1.0, "w0", "removed", "spot"))
    game.ready("w1")
    assert game.held["w1"] == [(0, 0, 16)]


def test_a_long_row_that_gets_on_between_deaths_is_neither_convicted_nor_given_up() -> None:
    game = Game(shards(1, rows=1), workers=1)
    for life in range(30):
        game.now += 100.0
        game.tell(Tick(game.now))
        game.ready(f"w{life}")
        assert game.failed[f"w{life}"] == {(0, 0, 1): []}
        game.says(f"w{life}", at=[(0, 0)], saved=1)
        game.crashes(f"w{life}")
    assert not game.said(JobEnded)


def test_a_row_that_got_on_and_then_kills_at_one_place_is_convicted() -> None:
    game = Game(shards(1, rows=1), workers=1)
    for life in range(8):
        game.now += 100.0
        game.tell(Tick(game.now))
        game.ready(f"w{life}")
        if game.failed[f"w{life}"] == {(0, 0, 1): [0]}:
            return
        game.says(f"w{life}", at=[(0, 0)], saved=int(life < 3))
        game.crashes(f"w{life}")
    raise AssertionError("never marked")


def test_no_row_is_convicted_before_any_was_done() -> None:
    game = Game(shards(2), workers=1)
    while not game.said(JobEnded):
        game.now += 100.0
        game.tell(Tick(game.now))
        worker = game.said(StartWorker)[-1].worker
        if worker not in game.beats:
            game.ready(worker)
        assert not any(game.failed[worker].values())
        key = game.held[worker][0]
        game.says(worker, at=[(key.shard, row) for row in range(key.start, key.stop)])
        game.crashes(worker)
    assert "in a row were lost before any row was done" in game.said(JobEnded)[0].message
