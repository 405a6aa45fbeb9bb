"""The Ray actor around one worker: the process, its environment, its signals.

Imports no jax: what jax reads at its import is set here first.
"""

import fcntl
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO

import ray

from rgpipeline.engine.activity import Activity
from rgpipeline.errors import OutputError
from rgpipeline.plan import Plan
from rgpipeline.plan.folder import PLAN
from rgpipeline.records import Assignment, WorkerReport
from rgpipeline.runtime.crew import Hello, Reply
from rgpipeline.runtime.logs import log_to_stderr
from rgpipeline.runtime.meshes import devices_of
from rgpipeline.runtime.metrics import WorkerMetrics
from rgpipeline.runtime.nodes import Node
from rgpipeline.runtime.placement import Placement, core_shares, environment
from rgpipeline.spec import Job
from rgpipeline.storage.filesystems import resolve_options
from rgpipeline.storage.store import Store, open_store
from rgpipeline.worker import EngineFactory, Worker


@dataclass(frozen=True, slots=True)
class Seat:
    """What a worker's process is to be."""

    name: str  # as the driver calls it
    attempt: str  # unlike that of any other process, ever
    placement: Placement


class WorkerActor:
    """One worker in a process of its own. All methods return at once.

    `hello` comes first and `begin` second: only then is it known which host this is.
    """

    def __init__(self, seat: Seat) -> None:
        self._seat = seat
        self._worker: Worker | None = None
        self._metrics: WorkerMetrics | None = None
        self._cores: IO[str] | None = None
        self._holding = 0
        self._leaving = False
        # Ray calls us in the main thread, where alone a signal can be taken.
        signal.signal(signal.SIGTERM, lambda *_: self.drain())

    def hello(self) -> Hello:
        """Where it runs."""
        return Hello(ray.get_runtime_context().get_node_id(), socket.gethostname(), os.getpid())

    def begin(self, node: Node | None, job: Job, plan: Plan, factory: EngineFactory | None) -> None:
        """Makes the process ready for jax and starts the worker in a thread; once."""
        if self._worker is not None:
            return
        seat = self._seat
        log_to_stderr(job=job.name, worker=seat.name)
        self._cores = _prepare(seat.placement, node)
        store = open_store(job.output.path, resolve_options(job.storage_options))
        require_same_output(store)
        activity = Activity()
        self._worker = Worker(
            job,
            plan,
            store,
            attempt=seat.attempt,
            open_engine=factory or _open_engine(job, seat.placement, activity),
            activity=activity,
        )
        self._metrics = WorkerMetrics(job.name, seat.name)
        if self._leaving:
            self._worker.drain()
        threading.Thread(target=self._worker.run, name="worker", daemon=True).start()

    def hold(self, serial: int, assignments: Sequence[Assignment]) -> None:
        """Takes the whole truth of what it is to hold; an overtaken one is left aside."""
        if self._worker is not None and serial > self._holding:
            self._holding = serial
            self._worker.hold(assignments)

    def report(self, seen: int) -> Reply:
        """How it is; `seen`: finished assignments that the driver knows of already."""
        if self._worker is None:
            return Reply(WorkerReport(beat=-1), begun=False, leaving=self._leaving)
        report = self._worker.report()
        if self._metrics is not None:
            self._metrics.update(report)
        fresh = replace(report, finished=report.finished[seen:])
        return Reply(fresh, holding=self._holding, leaving=self._leaving)

    def drain(self) -> None:
        """Publishes what is finished, saves what is long, and stops."""
        self._leaving = True
        if self._worker is not None:
            self._worker.drain()


def require_same_output(store: Store) -> None:
    """Raises OutputError where this host sees another folder than the driver does."""
    if not store.exists(PLAN):
        raise OutputError(
            f"{store.url()}: on {socket.gethostname()} this is not the folder that the job was "
            f"begun in; use an object store (gs://, s3://), or a disk that all hosts share"
        )


def _open_engine(job: Job, placement: Placement, activity: Activity) -> EngineFactory:
    """The factory with a model in it, its compiled programs kept on this host."""
    from rgpipeline.engine import factory

    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    factory.use_compilation_cache(Path(cache) if cache else _scratch() / "programs")
    weights = Path(job.workers.cache) if job.workers.cache else None
    given = devices_of(placement)
    return partial(
        factory.open_engine,
        mesh=job.workers.mesh,
        cache=weights,
        devices=given,
        activity=activity,
    )


def _prepare(placement: Placement, node: Node | None) -> IO[str] | None:
    """Sets what jax reads at its import; returns the lock on the cores taken, if any."""
    chips = ray.get_runtime_context().get_accelerator_ids().get("TPU", ())
    os.environ.update(environment(placement, node, [str(chip) for chip in chips], os.environ))
    return take_cores(core_shares(placement, node, sorted(os.sched_getaffinity(0))))


def take_cores(shares: Sequence[Sequence[int]]) -> IO[str] | None:
    """Pins this process to the first share that no other worker on this host has locked.

    The lock goes with the process, however it ends.
    """
    for index, cores in enumerate(shares):
        file = (_scratch() / f"cores-{index}.lock").open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            continue
        os.sched_setaffinity(0, cores)
        return file
    return None


def _scratch() -> Path:
    folder = Path(tempfile.gettempdir()) / f"rgpipeline-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
