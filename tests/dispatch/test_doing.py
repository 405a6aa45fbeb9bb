"""What workers do before there are tokens, as the display tells it."""

from rgpipeline.dispatch import WorkerStarted
from tests.dispatch.hand import Game, shards


def test_what_a_worker_does_to_open_its_engine_is_told_until_it_is_open() -> None:
    game = Game(shards(2))
    game.tell(WorkerStarted(0.0, "w0"))
    assert game.dispatch.fleet.opening == ""
    game.says("w0", slots=0, doing="reading weights, 1.0 GB of 5.4 GB")
    assert game.dispatch.fleet.opening == "reading weights, 1.0 GB of 5.4 GB"
    game.says("w0", doing="compiling decode")
    assert game.dispatch.fleet.opening == ""


def test_a_compilation_is_told_only_while_no_worker_does_anything_else() -> None:
    game = Game(shards(2))
    game.ready("w0", "w1")
    for worker in ("w0", "w1"):
        game.says(worker, doing="compiling decode")
    assert game.dispatch.fleet.compiling == "compiling decode"
    game.says("w1")
    assert game.dispatch.fleet.compiling == ""
