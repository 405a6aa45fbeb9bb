"""Stores are asked before a job starts: a silent one is named soon, and any answer will do."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rgpipeline.cli.app import call
from rgpipeline.errors import StoreError
from rgpipeline.storage import reachable
from rgpipeline.storage.reachable import check_reachable
from tests.cli.mistakes.case import Bench
from tests.ports import free_ports
from tests.storage.servers import Place


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For those who wait for nobody: whoever does answer may take his time."""
    monkeypatch.setattr(reachable, "PATIENCE_S", 0.5)


@pytest.fixture
def closed(impatient: None) -> str:
    """Where nobody listens."""
    return f"http://127.0.0.1:{free_ports(1)[0]}"


@pytest.fixture
def mute(impatient: None) -> Iterator[str]:
    """Where connections are taken, and nothing is said."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A job in the folder that commands run in."""
    monkeypatch.chdir(tmp_path)
    return Bench(tmp_path)


def s3(endpoint: str) -> dict[str, dict[str, Any]]:
    return {"s3": {"endpoint_url": endpoint, "anon": True}}


def test_a_closed_port_is_told_with_its_address(closed: str) -> None:
    with pytest.raises(StoreError) as told:
        check_reachable(["s3://b/in/*.parquet"], s3(closed))
    assert str(told.value) == (
        f"s3://b/in/*.parquet: the store at {closed} does not answer (Connection refused; tried "
        f"for 0.5 s); check storage_options.s3.endpoint_url, the network, and that the store is up"
    )


def test_a_host_that_takes_connections_and_says_nothing_is_told(mute: str) -> None:
    with pytest.raises(StoreError, match="it takes connections and sends nothing back"):
        check_reachable(["s3://b/in"], s3(mute))


def test_google_is_asked_too(closed: str) -> None:
    with pytest.raises(StoreError, match=f"gs://b/in: the store at {closed} does not answer"):
        check_reachable(["gs://b/in"], {"gs": {"endpoint_url": closed, "token": "anon"}})


def test_all_that_are_silent_are_named_at_once(closed: str) -> None:
    with pytest.raises(StoreError) as told:
        check_reachable(["s3://a/in", f"{closed}/prompts.parquet", "s3://a/out"], s3(closed))
    lines = str(told.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == ["s3://a/in", f"{closed}/prompts.parquet"]


def test_a_refusal_is_an_answer(moto_server: Place) -> None:
    check_reachable(["s3://no-such-bucket/in"], moto_server.storage_options)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("endpoint", ["http://[", "http://h:port", "no address", "http://"])
def test_an_address_that_is_none_raises_nothing_else(endpoint: str) -> None:
    with contextlib.suppress(StoreError):  # or left to whoever asks in earnest
        check_reachable(["s3://[/in", "http://[/x"], s3(endpoint))


def test_only_remote_stores_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def opened(url: str, options: object) -> None:
        asked.append(url)
        raise FileNotFoundError(url)

    monkeypatch.setattr(reachable, "open_filesystem", opened)
    local = [str(tmp_path / "gone"), "demo", "file:///gone", "memory://x", None]
    check_reachable([*local, "s3://bucket/in", "s3://bucket/out", "gs://bucket"], None)
    assert sorted(asked) == ["gs://bucket", "s3://bucket/in"]


@pytest.mark.parametrize(
    "command",
    [["run", "job.yaml"], ["run", "job.yaml", "--dry-run"], ["validate", "job.yaml"],
     ["status", "s3://b/out", "--storage", "s3.endpoint_url={closed}",
      "--storage", "s3.anon=true"]],
    ids=["run", "dry run", "validate", "status"],
)  # fmt: skip
def test_commands_say_so_instead_of_waiting(
    command: list[str], closed: str, here: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    here.set("output.path", "s3://b/out").set("storage_options", s3(closed)).save()
    assert call([word.format(closed=closed) for word in command]) != 0
    assert f"s3://b/out: the store at {closed} does not answer" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [["run", "job.yaml"], ["run", "job.yaml", "--dry-run"], ["validate", "job.yaml"],
     ["fit", "job.yaml", "--topology", "v5e:1x1x1"],
     ["fit", "--model", "{closed}/model", "--topology", "v5e:1x1x1"]],
    ids=["run", "dry run", "validate", "fit", "fit model"],
)  # fmt: skip
def test_a_models_store_is_asked_before_anything_is_begun(
    command: list[str], closed: str, here: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    here.set("model.weights", f"{closed}/model").save()
    assert call([word.format(closed=closed) for word in command]) != 0
    assert f"{closed}/model: its store does not answer" in capsys.readouterr().err
    assert not (here.folder / "out").exists()
