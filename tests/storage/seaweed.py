"""A real S3 server (SeaweedFS) in a process of its own, to be killed, hung and started again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import s3fs

from tests.ports import free_ports
from tests.processes import end_with_us

KEY, SECRET = "rgp-tests", "not-a-secret"  # tests/conftest.py puts them into the environment
BUCKET = "test"
_PORTS = ("master", "volume", "filer", "s3", "admin")  # each with one of gRPC beside it


class Seaweed:
    """`weed mini` over a folder; data and ports outlive a kill."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        ports = free_ports(2 * len(_PORTS))
        self._ports = dict(zip(_PORTS, ports, strict=False))
        self._grpc = dict(zip(_PORTS, ports[len(_PORTS) :], strict=True))
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._ports['s3']}"

    @property
    def storage_options(self) -> dict[str, dict[str, Any]]:
        """As in a job file; the credentials are in the environment."""
        return {"s3": {"endpoint_url": self.endpoint}}

    def url(self, name: str) -> str:
        return f"s3://{BUCKET}/{name}"

    def start(self) -> None:
        """Starts the server and waits until a put and a get succeed."""
        self._process = subprocess.Popen(
            [_weed(), "mini", *self._arguments()],
            env={
                **os.environ,
                "AWS_ACCESS_KEY_ID": KEY,
                "AWS_SECRET_ACCESS_KEY": SECRET,
                "TMPDIR": str(self._folder),  # its logs
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._guard = end_with_us(self._process, signal.SIGKILL)
        self._wait_until_it_serves()

    def kill(self) -> None:
        """SIGKILL; SIGTERM can leave it alive."""
        for process in (self._guard, self._process):
            if process is not None:
                process.kill()
                process.wait()

    def pause(self) -> None:
        """Hangs it: connections are accepted by the kernel, and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Kills it for good, and removes the sockets that it leaves behind, named by its ports."""
        self.kill()
        for port in (*self._ports.values(), *self._grpc.values()):
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)

    def filesystem(self) -> s3fs.S3FileSystem:
        """A client that caches nothing and shares nothing with the code under test."""
        return s3fs.S3FileSystem(
            key=KEY,
            secret=SECRET,
            endpoint_url=self.endpoint,
            use_listings_cache=False,
            skip_instance_cache=True,
        )

    def _arguments(self) -> Iterator[str]:
        yield f"-dir={self._folder}"
        yield from ("-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-bucket={BUCKET}")
        yield from ("-admin.ui=false", "-webdav=false", "-master.telemetry=false")
        yield from ("-s3.port.iceberg=0", "-s3.port.lance=0")
        yield from ("-s3.autoCreateBucket=false", "-master.volumeSizeLimitMB=64")
        for name in _PORTS:
            yield f"-{name}.port={self._ports[name]}"
            yield f"-{name}.port.grpc={self._grpc[name]}"

    def _wait_until_it_serves(self) -> None:
        fs, path = self.filesystem(), f"{BUCKET}/.ready"
        deadline = time.monotonic() + 180
        while True:
            try:
                fs.pipe_file(path, b"ready")
                assert fs.cat_file(path) == b"ready"
                fs.rm_file(path)
                return
            except Exception as error:
                if time.monotonic() > deadline or self._process is None or self._process.poll():
                    self.kill()
                    raise RuntimeError(f"weed mini does not serve: {error}") from error
                time.sleep(0.05)


@contextmanager
def seaweed(folder: Path) -> Iterator[Seaweed]:
    """A running server, killed at the end."""
    server = Seaweed(folder)
    try:
        server.start()
        yield server
    finally:
        server.close()


def environment() -> Mapping[str, str]:
    """What clients need in theirs; and no real credentials are ever in reach of a test."""
    return {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    }


def _weed() -> str:
    """Beside this environment's Python, or on the path."""
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else "weed"
