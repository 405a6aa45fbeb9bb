"""How a running job stands, for people: the display, heartbeats, the event log, metrics."""

import logging
import os
import platform
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import ray

from rgpipeline import __version__
from rgpipeline.dispatch.driver_messages import (
    Command,
    DrainWorker,
    Event,
    KillWorker,
    StartWorker,
    WorkerDied,
    WorkerReported,
    WorkerStarted,
)
from rgpipeline.dispatch.job_view import JobView, RowTokens, TokenRates, generated, view
from rgpipeline.dispatch.state_machine import Dispatch
from rgpipeline.events import RunBegan, RunEnded, WorkerChange, WorkerChanged, WorkerFigures
from rgpipeline.output import Heartbeat
from rgpipeline.output.job_status import Summary
from rgpipeline.records import PublishedTotals, WorkerReport
from rgpipeline.runtime.event_log import EventLog
from rgpipeline.runtime.metrics import JobMetrics
from rgpipeline.runtime.placement import Placement
from rgpipeline.runtime.worker_pool import WorkerPool

_log = logging.getLogger(__name__)

_FIGURES_S = 5.0  # between two notes of every worker's figures, for up to _NOTED workers
_NOTED = 500


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What is known of a job before its workers start."""

    published: PublishedTotals
    row_tokens: RowTokens
    warnings: Sequence[str] = ()
    slots_warning: Callable[[int], str | None] = lambda slots: None  # once workers have slots


class StatusReporter:
    """Follows a driver's events and commands, and reports how the job stands."""

    def __init__(
        self,
        dispatch: Dispatch,
        pool: WorkerPool,
        event_log: EventLog,
        metrics: JobMetrics,
        job: JobFacts,
        watch: Callable[[JobView], None] | None = None,
    ) -> None:
        """`watch` is called with every view of the job."""
        self._dispatch = dispatch
        self._pool = pool
        self._event_log = event_log
        self._metrics = metrics
        self._job = job
        self._watch = watch
        self._began = time.monotonic()
        self._warnings = list(job.warnings)
        self._ready: set[str] = set()  # workers whose engines have been open
        self._left: set[str] = set()  # workers that have left by themselves
        self._figures_at = 0.0
        self.rates = TokenRates()

    @property
    def store_full(self) -> str:
        """Why the output's store takes no more; empty while it does."""
        return self._event_log.full

    @property
    def generated_tokens(self) -> int:
        """By all workers of this run, also twice for rows that two of them did."""
        return generated(self._dispatch)[1]

    def run_began(self, placement: Placement, address: str) -> None:
        """Notes that this run begins, on the Ray cluster at `address`."""
        versions = {
            "rgpipeline": __version__,
            "ray": ray.__version__,
            "python": platform.python_version(),
        }
        chips = placement.devices or 0
        self._event_log.append(RunBegan(_now(), versions, str(placement), address, chips))

    def run_ended(self, summary: Summary) -> None:
        """Notes how this run has ended."""
        self._event_log.append(RunEnded(_now(), summary.outcome, summary.message))

    def follow(self, event: Event) -> None:
        """Notes an event that the driver is about to handle."""
        match event:
            case WorkerStarted():
                self._note("up", event.worker)
            case WorkerDied():
                self._note("died", event.worker, event.reason)
            case WorkerReported() if event.report.error is not None:
                self._note("died", event.worker, event.report.error)
            case WorkerReported() if event.report.stopped:
                self._left.add(event.worker)
                self._note("left", event.worker)
        if isinstance(event, WorkerReported) and event.report.slots:
            self._note_ready(event.worker, event.report)

    def _note_ready(self, worker: str, report: WorkerReport) -> None:
        if worker in self._ready:
            return
        self._ready.add(worker)
        self._note("ready", worker)
        for warning in (*report.warnings, self._job.slots_warning(report.slots)):
            if warning is not None and warning not in self._warnings:
                self._warnings.append(warning)

    def follow_command(self, command: Command) -> None:
        """Notes a command that the driver is about to carry out."""
        match command:
            case StartWorker():
                self._note("starting", command.worker)
            case DrainWorker():
                self._note("drained", command.worker)
            case KillWorker() if command.worker not in self._left:
                self._note("killed", command.worker, command.reason)

    def report(self, now: float, wanted: int, waiting_for: str, *, last: bool = False) -> None:
        """Brings display, heartbeat, event log and metrics up to date.

        Args:
          now: of the monotonic clock.
          wanted: how many workers the job wants.
          waiting_for: what the job waits for, in words; empty when nothing is missing.
          last: the job has ended.
        """
        self.rates.note(now, self.generated_tokens)
        seen = view(
            self._dispatch,
            self._job.published,
            self.rates,
            self._job.row_tokens,
            seconds=now - self._began,
            host_of=self._pool.host_of,
            waiting_for=waiting_for,
            warnings=[*self._warnings, *self._store_warnings()],
        )
        if self._watch is not None:
            self._watch(seen)
        self._event_log.set_heartbeat(self._heartbeat(seen))
        self._metrics.update(self._job_figures(seen, wanted))
        pause = _FIGURES_S * max(1.0, len(seen.workers) / _NOTED)
        if last or now - self._figures_at >= pause:
            self._figures_at = now
            self._note_figures(seen)

    def _store_warnings(self) -> Iterator[str]:
        if self._event_log.last_error:
            yield self._event_log.last_error
        if any(m.report.details.get("store_waits_s") for m in self._dispatch.fleet):
            yield "workers wait for the output's store, which does not answer them"

    def _heartbeat(self, seen: JobView) -> Heartbeat:
        return Heartbeat(
            "running",
            time.time(),
            workers=self._dispatch.fleet.at_work,
            tokens_per_second=seen.tokens_per_second,
            eta_seconds=seen.eta_seconds,
            details={
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "deaths": seen.deaths,
                "eta_at_most": seen.eta_at_most,
                "reading": seen.reading,
                "waiting_for": seen.waiting_for,
                "warnings": list(seen.warnings),
            },
        )

    def _job_figures(self, seen: JobView, wanted: int) -> dict[str, float]:
        return {
            "rgpipeline_job_rows": seen.rows,
            "rgpipeline_job_rows_done": seen.rows_done + seen.rows_failed,
            "rgpipeline_job_shards_waiting": self._dispatch.work.waiting,
            "rgpipeline_job_workers": len(seen.workers),
            "rgpipeline_job_workers_wanted": wanted,
            "rgpipeline_job_worker_deaths": seen.deaths,
        }

    def _note(self, what: WorkerChange, worker: str, reason: str = "") -> None:
        host = self._pool.host_of(worker)
        self._event_log.append(WorkerChanged(_now(), what, worker, host, reason))
        _log.info("worker %s %s%s", worker, what, f": {reason}" if reason else "")

    def _note_figures(self, seen: JobView) -> None:
        for worker in seen.workers:
            if worker.slots:
                values = asdict(worker)
                figures = WorkerFigures(_now(), values.pop("name"), **values)
                self._event_log.append(figures)


def _now() -> float:
    return round(time.time(), 3)
