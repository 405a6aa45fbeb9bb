"""The hook that lets a container's actors leave, on real processes with titles like Ray's."""

import runpy
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from tests.cluster.files import CLUSTER

LEAVE = runpy.run_path(str(CLUSTER / "leave.py"))

# Says that it is ready; at SIGTERM, that it publishes.
ACTOR = """
import signal, sys
def leave(*_):
    print("published", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print("ready", flush=True)
signal.pause()
"""


def start(title: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [title, "-c", ACTOR], executable=sys.executable, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def stop(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@pytest.fixture
def actor() -> Iterator[subprocess.Popen[str]]:
    process = start("ray::Actor.exchange")
    yield process
    stop(process)


@pytest.fixture
def agent() -> Iterator[subprocess.Popen[str]]:
    process = start("ray::DashboardAgent")
    yield process
    stop(process)


def test_finds_actors_and_leaves_rays_own_processes_alone(actor, agent):
    found = {process.pid for process in LEAVE["actors"]()}
    assert actor.pid in found
    assert agent.pid not in found


def test_waits_until_an_actor_has_published_and_gone(actor):
    LEAVE["dismiss"]([psutil.Process(actor.pid)])
    assert actor.stdout.read() == "published\n"
    assert actor.poll() is not None
