"""The loop around `Dispatch`: feeds it events, and carries out its commands."""

import threading
import time

from rgpipeline.dispatch.driver_messages import (
    Command,
    DesiredWorkers,
    DrainWorker,
    Event,
    JobEnded,
    KillWorker,
    SetAssignments,
    StartWorker,
    StopRequested,
    StoreFull,
    Tick,
    WorkerDraining,
)
from rgpipeline.dispatch.state_machine import Dispatch
from rgpipeline.runtime.cluster import Cluster, NodeWatch
from rgpipeline.runtime.placement import WorkerDemand
from rgpipeline.runtime.status_reporter import StatusReporter
from rgpipeline.runtime.worker_pool import WorkerPool

_WAIT_S = 0.1  # for the next event of a worker
_TICK_S = 1.0


class Driver:
    """One run of a job: until all is done, it must be aborted, or someone stops it."""

    def __init__(
        self,
        dispatch: Dispatch,
        pool: WorkerPool,
        nodes: NodeWatch,
        demand: WorkerDemand,
        reporter: StatusReporter,
        stop: threading.Event,
    ) -> None:
        """`stop`: once set, workers are told to publish what they have and leave."""
        self._dispatch = dispatch
        self._pool = pool
        self._nodes = nodes
        self._demand = demand
        self._reporter = reporter
        self._stop = stop
        self._seen: Cluster | None = None
        self._wanted = -1  # workers
        self._stopping = False
        self._ticked_at = 0.0
        self._end: JobEnded | None = None

    def run(self) -> JobEnded:
        """Drives the job to its end; returns how it ended."""
        while self._end is None:
            now = time.monotonic()
            if self._stop.is_set() and not self._stopping:
                self._stopping = True
                self._handle(StopRequested(now))
            self._check_nodes(now)
            if now - self._ticked_at >= _TICK_S:
                self._ticked_at = now
                if self._reporter.store_full:
                    self._handle(StoreFull(now, self._reporter.store_full))
                self._handle(Tick(now))
                self._reporter.report(now, self._wanted, self._waiting_for())
            for event in self._pool.events(_WAIT_S if self._end is None else 0.0):
                self._handle(event)
        self._reporter.report(time.monotonic(), self._wanted, self._waiting_for(), last=True)
        return self._end

    def _handle(self, event: Event) -> None:
        if self._end is not None:
            return
        self._reporter.follow(event)
        for command in self._dispatch.handle(event):
            self._reporter.follow_command(command)
            self._carry_out(command)

    def _carry_out(self, command: Command) -> None:
        match command:
            case StartWorker():
                self._pool.start(command.worker)
            case SetAssignments():
                self._pool.set_assignments(command.worker, command.assignments)
            case DrainWorker():
                self._pool.drain(command.worker)
            case KillWorker():
                self._pool.kill(command.worker)
            case JobEnded():
                self._end = command

    def _check_nodes(self, now: float) -> None:
        cluster = self._nodes.cluster
        if cluster is self._seen:
            return
        self._seen = cluster
        wanted = self._demand.wanted(cluster)
        if wanted != self._wanted:
            self._wanted = wanted
            self._handle(DesiredWorkers(now, wanted))
        for name in self._pool.on_nodes({node.id for node in cluster.nodes if node.leaving}):
            self._handle(WorkerDraining(now, name))

    def _waiting_for(self) -> str:
        """What the job waits for, in words for a person; empty when nothing is missing."""
        fleet, last = self._dispatch.fleet, self._dispatch.failures.last
        if self._stopping:
            return "workers to publish what they have, and leave"
        room = self._demand.missing(self._nodes.cluster)
        if fleet.at_work:
            return room or (fleet.compiling and f"workers ({fleet.compiling})")
        lost = f"; the last one was lost: {last.reason}" if last is not None else ""
        opening = f" ({fleet.opening})" if fleet.opening else ""
        return (room or f"workers to open their engines{opening}") + lost
