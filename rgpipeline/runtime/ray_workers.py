"""Workers as Ray actors: the actor around one worker, and the driver's calls to it.

Imports no jax: what jax reads when it is imported must be set first.
"""

import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError

from rgpipeline.addresses import DEMO
from rgpipeline.engine.activity import Activity
from rgpipeline.errors import JobError, OutputError, RgpipelineError, StoreError, UserError
from rgpipeline.model.weights.model_source import with_base
from rgpipeline.plan import Plan
from rgpipeline.plan.plan_files import PLAN
from rgpipeline.records import Assignment, Fault, WorkerReport
from rgpipeline.runtime.cluster import Node, is_alive
from rgpipeline.runtime.metrics import WorkerMetrics
from rgpipeline.runtime.placement import Placement
from rgpipeline.runtime.process_setup import compilation_cache, log_to_stderr, prepare_for_jax
from rgpipeline.runtime.worker_transport import (
    Exited,
    Reply,
    StartError,
    Unreachable,
    WorkerLocation,
)
from rgpipeline.spec import Job
from rgpipeline.storage.filesystems import local_path, protocol_of, resolve_options
from rgpipeline.storage.store import Store, open_store
from rgpipeline.worker import EngineFactory, Worker


class WorkerActor:
    """One worker in a process of its own. All methods return at once.

    The driver calls `locate` first, to know the node, and then `begin`.
    """

    def __init__(self, name: str, attempt: str, placement: Placement) -> None:
        """`name`: the driver's name of it; `attempt`: differs from that of any other, ever."""
        self._name, self._attempt, self._placement = name, attempt, placement
        self._worker: Worker | None = None
        self._metrics: WorkerMetrics | None = None
        self._cores: IO[str] | None = None  # the lock on them
        self._version = 0  # of the assignments
        self._leaving = False
        # Ray calls this in the main thread, the only one that can handle signals.
        signal.signal(signal.SIGTERM, lambda *_: self.drain())

    def locate(self) -> WorkerLocation:
        node = ray.get_runtime_context().get_node_id()
        return WorkerLocation(node, socket.gethostname(), os.getpid())

    def begin(self, node: Node | None, job: Job, plan: Plan, factory: EngineFactory | None) -> None:
        """Prepares the process for jax and starts the worker in a thread; does so once."""
        if self._worker is not None:
            return
        log_to_stderr(job=job.name, worker=self._name)
        chips = ray.get_runtime_context().get_accelerator_ids().get("TPU", ())
        self._cores = prepare_for_jax(self._placement, node, [str(chip) for chip in chips])
        store = open_store(job.output.path, resolve_options(job.storage_options))
        require_same_output(store)
        activity = Activity()
        self._worker = Worker(
            job,
            plan,
            store,
            attempt=self._attempt,
            open_engine=factory or engine_factory(job, self._placement, activity),
            activity=activity,
        )
        self._metrics = WorkerMetrics(job.name, self._name)
        if self._leaving:
            self._worker.drain()
        threading.Thread(target=self._worker.run, name="worker", daemon=True).start()

    def set_assignments(self, version: int, assignments: Sequence[Assignment]) -> None:
        if self._worker is not None and version > self._version:
            self._version = version
            self._worker.set_assignments(assignments)

    def report(self, seen: int) -> Reply:
        """`seen`: how many finished assignments the driver knows already."""
        if self._worker is None:
            return Reply(WorkerReport(progress_counter=-1), begun=False, leaving=self._leaving)
        report = self._worker.report()
        if self._metrics is not None:
            self._metrics.update(report)
        fresh = replace(report, finished=report.finished[seen:])
        return Reply(fresh, version=self._version, leaving=self._leaving)

    def drain(self) -> None:
        """Publishes what is finished, saves snapshots of long rows, and stops."""
        self._leaving = True
        if self._worker is not None:
            self._worker.drain()


def require_same_output(store: Store) -> None:
    """Raises OutputError where the output is another folder on this host than on the driver's."""
    if not store.exists(PLAN):
        raise OutputError(
            f"{store.url()}: on {socket.gethostname()} this is not the folder that the job was "
            f"begun in; use an object store (gs://, s3://), or a disk that all hosts share"
        )


def engine_factory(job: Job, placement: Placement, activity: Activity) -> EngineFactory:
    """Opens the job's model; compiled programs are kept on this host."""
    from rgpipeline.engine import factory

    factory.use_compilation_cache(compilation_cache())
    weights = Path(job.workers.cache) if job.workers.cache else None
    return partial(
        factory.open_engine,
        mesh=job.workers.mesh,
        cache=weights,
        devices=placement.devices,
        activity=activity,
    )


_LONGEST_REASON = 400  # characters


class RayTransport:
    """`WorkerTransport` on the Ray cluster that this process is connected to."""

    def __init__(
        self,
        job: Job,
        plan: Plan,
        placement: Placement,
        node_of: Callable[[str], Node | None],
        open_engine: EngineFactory | None = None,
    ) -> None:
        """`node_of`: finds a node by its id; `open_engine`: in place of the job's model."""
        self._placement = placement
        self._node_of = node_of
        # Put into the object store once, from which hosts fetch it; not sent to each worker.
        self._given = (ray.put(with_absolute_paths(job)), ray.put(plan), open_engine)
        # So is the class. Ray keeps no history of the calls: there are very many.
        self._make = ray.remote(WorkerActor).options(
            **placement.options(),
            max_restarts=0,
            scheduling_strategy="SPREAD",
            enable_task_events=False,
        )

    def start(self, name: str, attempt: str) -> Any:
        return self._make.remote(name, attempt, self._placement)

    def kill(self, actor: Any) -> None:
        ray.kill(actor, no_restart=True)

    def locate(self, actor: Any) -> "Future[WorkerLocation]":
        return _future(actor.locate.remote())

    def begin(self, actor: Any, node: str) -> "Future[None]":
        return _future(actor.begin.remote(self._node_of(node), *self._given))

    def report(self, actor: Any, seen: int) -> "Future[Reply]":
        return _future(actor.report.remote(seen))

    def set_assignments(self, actor: Any, version: int, assignments: Sequence[Assignment]) -> None:
        actor.set_assignments.remote(version, assignments)

    def drain(self, actor: Any) -> None:
        actor.drain.remote()

    def classify(self, error: BaseException, node: str) -> Unreachable | StartError | Exited:
        if isinstance(error, ActorUnavailableError):
            return Unreachable()
        if isinstance(error, RayTaskError):
            return _start_error(error.cause)
        preempted = isinstance(error, ActorDiedError) and error.preempted
        if preempted or (node and not is_alive(node)):
            return Exited(removed=True, reason="its host went away")
        return Exited(removed=False, reason=_reason(error))


def with_absolute_paths(job: Job) -> Job:
    """The job without relative paths: workers have another working directory than the driver."""
    named = with_base(job.model)
    model = {key.removeprefix("model."): _absolute(url) for key, url in named.urls()}
    output = {"path": _absolute(job.output.path)}
    return job.model_copy(
        update={
            "model": named.model_copy(update=model),
            "output": job.output.model_copy(update=output),
        }
    )


def _absolute(path: str) -> str:
    local = protocol_of(path) == "file" and "://" not in path and path != DEMO
    return str(local_path(path, JobError).absolute()) if local else path


def _future(ref: Any) -> "Future[Any]":
    future: Future[Any] = ref.future()
    return future


def _start_error(cause: BaseException) -> StartError:
    """With the error's own message; with its type too where it is not rgpipeline's."""
    ours = isinstance(cause, RgpipelineError)
    fault: Fault = "worker"
    if isinstance(cause, UserError):
        fault = "user"
    elif isinstance(cause, StoreError):
        fault = "store"
    return StartError(str(cause) if ours else f"{type(cause).__name__}: {cause}", fault)


def _reason(error: BaseException) -> str:
    """Ray's message about the end of a process, without its ids and guesses."""
    text = " ".join(str(error).split())
    text = text.rpartition("Worker exit detail: ")[2].partition(" Some common causes")[0]
    if "connection error code 2" in text:
        return "it was killed, or crashed"
    return text[:_LONGEST_REASON]
