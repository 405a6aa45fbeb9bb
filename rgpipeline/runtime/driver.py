"""The shell around `Dispatch`: events from Ray and the person in, commands to the workers out."""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

from rgpipeline.dispatch import (
    Command,
    DesiredWorkers,
    Dispatch,
    DrainWorker,
    Event,
    JobEnded,
    KillWorker,
    SetAssignments,
    StartWorker,
    StopRequested,
    StoreFull,
    Tick,
    WorkerDied,
    WorkerDraining,
    WorkerReported,
    WorkerStarted,
)
from rgpipeline.dispatch.job_view import JobView, PublishedBefore, generated, view
from rgpipeline.dispatch.throughput import RowTokens, TokenRates
from rgpipeline.output import Heartbeat
from rgpipeline.runtime.cluster_nodes import Cluster, NodeWatch
from rgpipeline.runtime.event_log import EventLog
from rgpipeline.runtime.metrics import JobMetrics
from rgpipeline.runtime.placement import Placement, held_up, wanted
from rgpipeline.runtime.worker_pool import WorkerPool
from rgpipeline.spec import WorkersSpec

_log = logging.getLogger(__name__)

_WAIT_S = 0.1  # for the next word from a worker
_TICK_S = 1.0
_RATES_S = 5.0  # between two notes on every worker, for up to _NOTED workers
_NOTED = 500


class Driver:
    """One run of a job: until all is done, it can't go on, or someone stops it."""

    def __init__(
        self,
        dispatch: Dispatch,
        pool: WorkerPool,
        event_log: EventLog,
        nodes: NodeWatch,
        metrics: JobMetrics,
        *,
        workers: WorkersSpec,
        placement: Placement,
        before: PublishedBefore,
        row_tokens: RowTokens,
        stop: threading.Event,
        watch: Callable[[JobView], None] | None = None,
        warnings: Sequence[str] = (),
        slots_warning: Callable[[int], str | None] = lambda slots: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dispatch = dispatch
        self._pool = pool
        self._event_log = event_log
        self._nodes = nodes
        self._metrics = metrics
        self._workers = workers
        self._placement = placement
        self._before = before
        self._row_tokens = row_tokens
        self._stop = stop
        self._watch = watch
        self._warnings = list(warnings)
        self._slots_warning = slots_warning
        self._clock = clock
        self._began = clock()
        self._rates = TokenRates()
        self._seen: Cluster | None = None
        self._room = -1
        self._stopping = False
        self._ready: set[str] = set()  # these and those have been noted
        self._left: set[str] = set()
        self._noted_at = 0.0
        self._ticked_at = 0.0
        self._end: JobEnded | None = None

    @property
    def rates(self) -> TokenRates:
        return self._rates

    def run(self) -> JobEnded:
        """Drives the job to its end; returns how that came."""
        while self._end is None:
            now = self._clock()
            if self._stop.is_set() and not self._stopping:
                self._stopping = True
                self._tell(StopRequested(now))
            self._look_at_nodes(now)
            if now - self._ticked_at >= _TICK_S:
                self._ticked_at = now
                if self._event_log.full:
                    self._tell(StoreFull(now, self._event_log.full))
                self._tell(Tick(now))
                self._show(now)
            for event in self._pool.events(_WAIT_S if self._end is None else 0.0):
                self._tell(event)
        self._show(self._clock())
        return self._end

    def _tell(self, event: Event) -> None:
        if self._end is not None:
            return
        self._note(event)
        for command in self._dispatch.handle(event):
            self._carry_out(command)
        if (
            isinstance(event, WorkerReported)
            and event.report.slots
            and event.worker not in self._ready
        ):
            self._ready.add(event.worker)
            self._note_worker("ready", event.worker)
            warning = self._slots_warning(event.report.slots)
            if warning is not None and warning not in self._warnings:
                self._warnings.append(warning)

    def _carry_out(self, command: Command) -> None:
        match command:
            case StartWorker():
                self._note_worker("starting", command.worker)
                self._pool.start(command.worker)
            case SetAssignments():
                self._pool.set_assignments(command.worker, command.assignments)
            case DrainWorker():
                self._note_worker("drained", command.worker)
                self._pool.drain(command.worker)
            case KillWorker():
                if command.worker not in self._left:
                    self._note_worker("killed", command.worker, command.reason)
                self._pool.kill(command.worker)
            case JobEnded():
                self._end = command

    def _look_at_nodes(self, now: float) -> None:
        cluster = self._nodes.cluster
        if cluster is self._seen:
            return
        self._seen = cluster
        room = wanted(self._workers, self._placement, cluster)
        if room != self._room:
            self._room = room
            self._tell(DesiredWorkers(now, room))
        for name in self._pool.on_nodes({node.id for node in cluster.nodes if node.leaving}):
            self._tell(WorkerDraining(now, name))

    def _show(self, now: float) -> None:
        """Brings display, heartbeat, event log and metrics up to date."""
        self._rates.note(now, generated(self._dispatch)[1])
        seen = self._view(now)
        if self._watch is not None:
            self._watch(seen)
        self._event_log.set_heartbeat(self._heartbeat(seen))
        self._metrics.update(self._figures(seen))
        pause = _RATES_S * max(1.0, len(seen.workers) / _NOTED)
        if now - self._noted_at >= pause or self._end is not None:
            self._noted_at = now
            self._note_rates(seen)

    def _view(self, now: float) -> JobView:
        return view(
            self._dispatch,
            self._before,
            self._rates,
            self._row_tokens,
            seconds=now - self._began,
            host_of=self._pool.host_of,
            waiting_for=self._waiting_for(),
            warnings=[*self._warnings, *self._troubles()],
        )

    def _troubles(self) -> Iterator[str]:
        if self._event_log.last_error:
            yield self._event_log.last_error
        if any(m.report.details.get("store_waits_s") for m in self._dispatch.fleet):
            yield "workers wait for the output's store, which does not answer them"

    def _waiting_for(self) -> str:
        fleet, last = self._dispatch.fleet, self._dispatch.failures.last
        if self._stopping:
            return "workers to publish what they have, and leave"
        short = held_up(self._workers, self._placement, self._nodes.cluster)
        if fleet.at_work:
            return short or (fleet.compiling and f"workers ({fleet.compiling})")
        lost = f"; the last one was lost: {last.reason}" if last is not None else ""
        doing = f" ({fleet.opening})" if fleet.opening else ""
        return (short or f"workers to open their engines{doing}") + lost

    def _heartbeat(self, seen: JobView) -> Heartbeat:
        details = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "deaths": seen.deaths,
            "eta_at_most": seen.eta_at_most,
            "reading": seen.reading,
        }
        return Heartbeat(
            "running",
            time.time(),
            workers=self._dispatch.fleet.at_work,
            tokens_per_second=seen.tokens_per_second,
            eta_seconds=seen.eta_seconds,
            details={**details, "waiting_for": seen.waiting_for, "warnings": list(seen.warnings)},
        )

    def _figures(self, seen: JobView) -> dict[str, float]:
        return {
            "rgpipeline_job_rows": seen.rows,
            "rgpipeline_job_rows_done": seen.rows_done + seen.rows_failed,
            "rgpipeline_job_shards_waiting": self._dispatch.work.waiting,
            "rgpipeline_job_workers": len(seen.workers),
            "rgpipeline_job_workers_wanted": self._room,
            "rgpipeline_job_worker_deaths": seen.deaths,
        }

    def _note(self, event: Event) -> None:
        match event:
            case WorkerStarted():
                self._note_worker("up", event.worker)
            case WorkerDied():
                self._note_worker("died", event.worker, event.reason)
            case WorkerReported() if event.report.error is not None:
                self._note_worker("died", event.worker, event.report.error)
            case WorkerReported() if event.report.stopped:
                self._left.add(event.worker)
                self._note_worker("left", event.worker)

    def _note_worker(self, what: str, worker: str, reason: str = "") -> None:
        host = self._pool.host_of(worker)
        self._event_log.event("worker", what=what, worker=worker, host=host, reason=reason)
        _log.info("worker %s %s%s", worker, what, f": {reason}" if reason else "")

    def _note_rates(self, seen: JobView) -> None:
        for worker in seen.workers:
            if worker.slots:
                facts = asdict(worker)
                facts["worker"] = facts.pop("name")
                self._event_log.event("rate", **facts)
