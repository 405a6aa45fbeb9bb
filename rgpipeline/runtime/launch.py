"""`run`: a job from its plan to its last row."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rgpipeline.dispatch.driver_messages import JobEnded
from rgpipeline.dispatch.failure_tracker import Policy
from rgpipeline.dispatch.job_view import JobView, RowTokens, waiting_view
from rgpipeline.dispatch.state_machine import Dispatch
from rgpipeline.errors import Interrupted, UserError
from rgpipeline.jobfile import load_job
from rgpipeline.output import (
    Heartbeat,
    JobFolder,
    ShardProgress,
    read_progress,
    withdraw_success,
)
from rgpipeline.output.job_status import Summary, published_totals
from rgpipeline.plan import Plan, open_or_create
from rgpipeline.plan.resolved_settings import few_rows_warning
from rgpipeline.records import PublishedTotals
from rgpipeline.runtime.cluster import Cluster, NodeWatch, connected, read_cluster
from rgpipeline.runtime.driver import Driver
from rgpipeline.runtime.event_log import EventLog
from rgpipeline.runtime.job_progress import (
    mark_finished,
    other_driver_warning,
    summary_of,
    verify_complete,
    work_left,
)
from rgpipeline.runtime.metrics import JobMetrics
from rgpipeline.runtime.placement import (
    Placement,
    WorkerDemand,
    check_mesh,
    choose,
    other_meshes,
    with_counted_mesh,
)
from rgpipeline.runtime.process_setup import stopping_on_signals
from rgpipeline.runtime.ray_workers import RayTransport
from rgpipeline.runtime.status_reporter import JobFacts, StatusReporter
from rgpipeline.runtime.worker_pool import WorkerPool
from rgpipeline.spec import Job
from rgpipeline.storage.reachable import check_reachable
from rgpipeline.storage.store import RetryingStore, open_store
from rgpipeline.validation.repeated_ids import id_warnings
from rgpipeline.validation.templated_prompts import prompt_warnings
from rgpipeline.worker import EngineFactory

# A cluster that was started a moment ago may still lack its hosts; an autoscaler's come late.
_JOINING_S, _GROWING_S = 30.0, 1200.0
_BRIEF_S, _CHECK_S = 5.0, 20.0  # what a check of rows is waited for: at the beginning, at the end
_log = logging.getLogger(__name__)


def run(
    job: Job | str | Path,
    *,
    address: str = "auto",
    watch: Callable[[JobView], None] | None = None,
    stop: threading.Event | None = None,
    open_engine: EngineFactory | None = None,
) -> Summary:
    """Does what is left of a job on a Ray cluster; returns how it ended.

    Args:
      job: a job, or the path of a job file. Running the same job again continues it.
      address: `auto` (a cluster on this machine, else one of our own), `local` or an address.
      watch: is called about once a second with the state of the job.
      stop: once set, workers publish what they have and leave; so do SIGINT, SIGTERM and
        `rgpipeline stop`. The outcome is then `interrupted`.
      open_engine: opens the workers' engines; default: the job's model.

    Raises:
      UserError: a mistake that is found before any worker starts. Later ones are in the summary.
      StoreError: a store that the job names fails before any worker starts. Later, the run waits
        for it.
    """
    began = time.monotonic()
    job = _loaded(job)
    check_reachable((url for _, url in job.urls()), job.storage_options)
    store = open_store(job.output.path, job.storage_options)
    plan = open_or_create(job, store)
    progress = read_progress(JobFolder(store, job, plan))
    if all(shard.finished for shard in progress):
        mark_finished(JobFolder(store, job, plan, job.storage_options))
        seconds = time.monotonic() - began
        return summary_of(
            JobEnded("finished"), progress, job.output.path, seconds, already_done=True
        )
    withdraw_success(store)
    prompts = RowCheck("prompts", lambda: prompt_warnings(job, plan))
    prompts.open()
    begun = _Run(
        *(job, plan, store, progress, prompts, stop or threading.Event(), watch, open_engine, began)
    )
    with connected(address) as where, stopping_on_signals(begun.stop):
        try:
            return begun.drive(where)
        except Interrupted:
            seconds = time.monotonic() - began
            return summary_of(JobEnded("stopped"), progress, job.output.path, seconds)


def _loaded(job: object) -> Job:
    if isinstance(job, str | Path):
        return load_job(job)
    if not isinstance(job, Job):
        raise UserError(
            f"run takes a job (load_job) or the path of a job file; found {type(job).__name__}"
        )
    return job


class RowCheck:
    """Looks at the first rows in a thread, while other things go on."""

    def __init__(self, what: str, check: Callable[[], Iterable[str]]) -> None:
        """`what` of the rows is looked at; `check` returns warnings, and may take long."""
        self._what, self._check = what, check
        self._found: Sequence[str] = ()
        self._thread = threading.Thread(target=self._run, name=what, daemon=True)

    def open(self) -> None:
        self._thread.start()

    def found(self, wait_s: float = _CHECK_S) -> Sequence[str]:
        """The warnings; none where the check is not done in time."""
        self._thread.join(wait_s)
        return self._found

    def _run(self) -> None:
        try:
            self._found = tuple(self._check())
        except Exception as error:  # the rows are done all the same
            _log.warning("the rows' %s can't be looked at: %s", self._what, error)


@dataclass(frozen=True)
class _Run:
    """One call of `run` that has something to do."""

    job: Job
    plan: Plan
    store: RetryingStore
    progress: Sequence[ShardProgress]
    prompts: RowCheck
    stop: threading.Event
    watch: Callable[[JobView], None] | None
    open_engine: EngineFactory | None
    began: float  # of the monotonic clock

    def drive(self, address: str) -> Summary:
        """Runs the job on the cluster that this process is connected to."""
        published = published_totals(self.progress)
        cluster, placement = self._find_room(address == "local", published)
        job = with_counted_mesh(self.job, placement)
        nodes, event_log = NodeWatch(cluster), EventLog(self.store, self.stop.set)
        ids = RowCheck("ids", lambda: id_warnings(job, self.plan))
        transport = RayTransport(job, self.plan, placement, nodes.node, self.open_engine)
        pool = WorkerPool(transport)
        dispatch = Dispatch(work_left(self.plan, self.progress), Policy.of(job.faults))
        told = self.prompts.found(_BRIEF_S)
        meshes, others = other_meshes(self.store, job), other_driver_warning(self.store)
        facts = JobFacts(
            published,
            RowTokens.of(job, self.plan.columns),
            [*self.plan.warnings, *told, *meshes, *others],
            partial(few_rows_warning, job, self.plan.rows),
        )
        metrics = JobMetrics(job.name)
        reporter = StatusReporter(dispatch, pool, event_log, metrics, facts, self.watch)
        demand = WorkerDemand(job.workers, placement)
        driver = Driver(dispatch, pool, nodes, demand, reporter, self.stop)
        reporter.run_began(placement, address)
        event_log.open()
        nodes.open()
        ids.open()
        try:
            end = driver.run()
        except KeyboardInterrupt:  # the second Ctrl-C: end at once
            end = JobEnded("stopped")
        except Exception as error:
            event_log.close(Heartbeat("failed", time.time(), details={"message": str(error)}))
            raise
        finally:
            nodes.close()
            pool.kill_all()
        late = [] if told else self.prompts.found()
        warning = "\n".join([*late, *ids.found()]) if end.outcome == "finished" else ""
        return self._conclude(end, reporter, event_log, warning)

    def _find_room(self, local: bool, published: PublishedTotals) -> tuple[Cluster, Placement]:
        """Where workers go. Raises UserError when the cluster has, and gets, no room for any."""
        began = time.monotonic()
        while True:
            cluster = read_cluster()
            try:
                placement = choose(self.job.workers, cluster)
            except UserError as error:
                waited = time.monotonic() - began
                if waited >= (0.0 if local else _GROWING_S if cluster.grows else _JOINING_S):
                    raise
                seconds, waits = time.monotonic() - self.began, f"hosts: {error}"
            else:
                check_mesh(self.job.workers, placement)
                return cluster, placement
            if self.watch is not None:
                self.watch(waiting_view(published, seconds=seconds, waiting_for=waits))
            if self.stop.wait(1.0):
                raise Interrupted

    def _conclude(
        self, end: JobEnded, reporter: StatusReporter, event_log: EventLog, warning: str
    ) -> Summary:
        progress = read_progress(JobFolder(self.store, self.job, self.plan))
        summary = summary_of(
            verify_complete(end, progress, self.store),
            progress,
            self.job.output.path,
            time.monotonic() - self.began,
            tokens_per_second=reporter.rates.mean,
            generated_tokens=reporter.generated_tokens,
            warning=warning,
        )
        reporter.run_ended(summary)
        last = Heartbeat(
            summary.outcome,
            time.time(),
            tokens_per_second=summary.tokens_per_second,
            details={"message": summary.message},
        )
        event_log.close(last)
        if summary.outcome == "finished":
            mark_finished(JobFolder(self.store, self.job, self.plan, self.job.storage_options))
        return summary
