"""Which cluster a run works on."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import ray

from rgpipeline.errors import UserError
from rgpipeline.runtime.cluster import connected, scratch_folder
from tests.ports import free_ports

_CONNECT = """
from rgpipeline.runtime.cluster import connected
with connected("auto") as address:
    print(address)
"""

# Prints where it is, and the page faults of memory that is as large as what was freed before.
_ALLOCATE_TWICE = """
import ray
from rgpipeline.runtime.cluster import connected

@ray.remote
def faults():
    import ctypes, resource
    library, size = ctypes.CDLL(None), ctypes.c_size_t(64 << 20)
    library.malloc.restype = ctypes.c_void_p
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        memory = ctypes.c_void_p(library.malloc(size))
        ctypes.memset(memory, 1, size.value)
        library.free(memory)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with connected("auto") as address:
    print(address, ray.get(faults.remote()))
"""


def connect_elsewhere(script: str = _CONNECT, **environment: str) -> str:
    """What a script prints in a process of its own: by default, where a run ends up."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    return done.stdout.strip()


def test_a_temporary_folder_too_long_for_sockets_is_replaced(tmp_path: Path) -> None:
    long, short = str(tmp_path / ("x" * 107)), tempfile.mkdtemp(prefix="rgp", dir="/tmp")
    assert scratch_folder(short, [long]) == short
    assert scratch_folder(long, [f"{short}/ray"]) == f"{short}/ray"
    with pytest.raises(UserError, match="set RAY_TMPDIR to a short path"):
        scratch_folder(long, [long])


@pytest.fixture(scope="module")
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What `_ALLOCATE_TWICE` prints where nothing is as it should be."""
    long = tmp_path_factory.mktemp("long") / ("a" * 60) / ("b" * 60)
    long.mkdir(parents=True)
    gone = f"127.0.0.1:{free_ports(1)[0]}"
    return connect_elsewhere(_ALLOCATE_TWICE, TMPDIR=str(long), RAY_ADDRESS=gone).split()


def test_a_long_temporary_folder_and_a_cluster_that_is_gone_hinder_no_run(
    own_cluster: list[str],
) -> None:
    assert own_cluster[0] == "local"


def test_workers_of_a_runs_own_cluster_keep_freed_memory(own_cluster: list[str]) -> None:
    pages = (64 << 20) // 4096
    assert int(own_cluster[1]) < pages // 4


@pytest.mark.usefixtures("cluster")
def test_another_runs_private_cluster_is_left_alone() -> None:
    assert connect_elsewhere() == "local"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "no Ray cluster answers there"),
        ("http://127.0.0.1:8265", "rgpipeline submit"),
        ("ray://127.0.0.1:10001", "rgpipeline submit"),
        ("nonsense", "no Ray cluster answers there"),
    ],
)
def test_an_address_that_cannot_be_joined_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, address: str, message: str
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(UserError, match=message), connected(address):
        pass


@pytest.mark.usefixtures("cluster")
def test_the_callers_own_cluster_is_used_and_no_other() -> None:
    with connected("auto") as address:
        assert address == ray.get_runtime_context().gcs_address
    assert ray.is_initialized()
    with pytest.raises(UserError, match="is connected to the Ray cluster"), connected("local"):
        pass
