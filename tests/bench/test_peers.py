"""The peers that need no environment of their own, on a tiny model."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import environments
from bench.model import model_folder
from bench.peer_set import HF, MLX, OFFICIAL, OURS, PeerSet
from bench.peers.exchange import Setup
from bench.processes import Process

SETUP = Setup("float32", 2)
ROWS = [([2, 5, 6], 3), ([2, 7, 8, 9, 10], 5)]


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("bench")
    with Process("bench.peers.official", model_folder("tiny", folder), folder) as process:
        yield process


def test_longer_padding_does_not_change_what_the_official_sampler_generates(
    official: Process,
) -> None:
    plain = official.run(SETUP, [ROWS])
    padded = official.run(SETUP, [ROWS], prompt_lengths=[8])

    assert [len(row) for row in padded.tokens] == [3, 5]
    assert padded.tokens == plain.tokens


def test_a_peer_without_its_environment_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environments, "OUT", tmp_path)

    peers = PeerSet(tmp_path, names=(OURS, OFFICIAL, HF, MLX))

    assert peers.names == (OURS, OFFICIAL)
    assert capsys.readouterr().out.splitlines() == [
        "hf: its environment is missing; make bench-peers makes it",
        "mlx: its environment is missing; make bench-peers makes it",
    ]
