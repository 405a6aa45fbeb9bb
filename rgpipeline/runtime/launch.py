"""`run`: a job from its plan to its last row."""

import platform
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray

from rgpipeline import __version__
from rgpipeline.dispatch import Dispatch, End, Policy, Work
from rgpipeline.dispatch.eta import RowTokens
from rgpipeline.dispatch.view import Before, JobView, Rates, before_it_begins, generated
from rgpipeline.errors import Interrupted, UserError
from rgpipeline.jobfile import load_job
from rgpipeline.output import (
    Heartbeat,
    ShardProgress,
    read_heartbeat,
    read_progress,
    withdraw_success,
)
from rgpipeline.output.summary import Summary
from rgpipeline.plan import Plan, open_or_create
from rgpipeline.plan.few_rows import few_rows_warning
from rgpipeline.records import ShardDone
from rgpipeline.runtime.actors import RayActors
from rgpipeline.runtime.crew import Crew
from rgpipeline.runtime.driver import Driver
from rgpipeline.runtime.ending import believed, mark_finished, summary_of
from rgpipeline.runtime.journal import Journal
from rgpipeline.runtime.meshes import check_mesh, other_meshes, with_counted_mesh
from rgpipeline.runtime.metrics import JobMetrics
from rgpipeline.runtime.nodes import Cluster, look
from rgpipeline.runtime.placement import Placement, choose
from rgpipeline.runtime.session import connected
from rgpipeline.runtime.signals import stopping_on_signals
from rgpipeline.runtime.watchers import IdCheck, NodeWatch
from rgpipeline.spec import Job
from rgpipeline.storage.reachable import check_reachable
from rgpipeline.storage.store import RetryingStore, open_store
from rgpipeline.worker import EngineFactory
from rgpipeline.worker.ids import id_warnings

# A cluster that was started a moment ago may still lack its hosts; an autoscaler's come late.
_JOINING_S, _GROWING_S = 30.0, 1200.0
_SAID_LATELY_S = 30.0


def run(
    job: Job | str | Path,
    *,
    address: str = "auto",
    watch: Callable[[JobView], None] | None = None,
    stop: threading.Event | None = None,
    open_engine: EngineFactory | None = None,
) -> Summary:
    """Does all of a job that is not done, on a Ray cluster; returns how it ended.

    Args:
      job: what to do, or the path of a job file. Running the same again goes on where it ended.
      address: `auto` (the cluster that is here, else one of our own), `local` or an address.
      watch: called about once a second with how the job stands.
      stop: once set, workers publish what they have and leave; so do SIGINT, SIGTERM and
        `rgpipeline stop`. The outcome is then `interrupted`.
      open_engine: opens what workers generate with; default: the job's model.

    Raises:
      UserError: a mistake that is seen before any worker starts. Later ones are in the summary.
      StoreError: a store of the job's doesn't answer, or fails, before that. Later, it is waited
        for.
    """
    began = time.monotonic()
    job = _loaded(job)
    places = [*job.input.path, job.output.path, *job.model.addresses]
    check_reachable(places, job.storage_options)
    store = open_store(job.output.path, job.storage_options)
    plan = open_or_create(job, store)
    progress = read_progress(store, plan)
    if all(shard.finished for shard in progress):
        mark_finished(store)
        seconds = time.monotonic() - began
        return summary_of(End("finished"), progress, job.output.path, seconds, already_done=True)
    withdraw_success(store)
    begun = _Run(job, plan, store, progress, stop or threading.Event(), watch, open_engine, began)
    with connected(address) as where, stopping_on_signals(begun.stop):
        try:
            return begun.drive(where)
        except Interrupted:
            seconds = time.monotonic() - began
            return summary_of(End("stopped"), progress, job.output.path, seconds)


def _loaded(job: object) -> Job:
    if isinstance(job, str | Path):
        return load_job(job)
    if not isinstance(job, Job):
        raise UserError(
            f"run takes a job (load_job) or the path of a job file; found {type(job).__name__}"
        )
    return job


@dataclass(frozen=True)
class _Run:
    """One call of `run` that has something to do."""

    job: Job
    plan: Plan
    store: RetryingStore
    progress: Sequence[ShardProgress]
    stop: threading.Event
    watch: Callable[[JobView], None] | None
    open_engine: EngineFactory | None
    began: float  # of the monotonic clock

    def drive(self, address: str) -> Summary:
        before = _before(self.plan, self.progress)
        cluster, placement = self._find_room(address == "local", before)
        job = with_counted_mesh(self.job, placement)
        meshes = other_meshes(self.store, job)
        warnings = [*self.plan.warnings, *meshes, *_others_at_it(self.store)]
        journal = Journal(self.store, self.stop.set)
        nodes, ids = NodeWatch(cluster), IdCheck(lambda: id_warnings(job, self.plan))
        crew = Crew(RayActors(job, self.plan, placement, nodes.node, self.open_engine))
        dispatch = Dispatch(self._work(), Policy.of(self.job.faults))
        driver = Driver(
            dispatch,
            crew,
            journal,
            nodes,
            JobMetrics(self.job.name),
            workers=self.job.workers,
            placement=placement,
            before=before,
            row_tokens=RowTokens.of(self.job, self.plan.columns),
            stop=self.stop,
            watch=self.watch,
            warnings=warnings,
            slots_warning=partial(few_rows_warning, job, self.plan.rows),
        )
        journal.event("run", what="began", **_facts(placement, address))
        journal.open()
        nodes.open()
        ids.open()
        try:
            end = driver.run()
        except KeyboardInterrupt:  # the second Ctrl-C: now
            end = End("stopped")
        except Exception as error:
            journal.close(Heartbeat("failed", time.time(), details={"message": str(error)}))
            raise
        finally:
            nodes.close()
            crew.kill_all()
        return self._conclude(end, dispatch, driver.rates, journal, ids)

    def _find_room(self, local: bool, before: Before) -> tuple[Cluster, Placement]:
        """Where workers go. Raises UserError when the cluster has, and gets, no place for any."""
        looked = time.monotonic()
        while True:
            cluster = look()
            try:
                placement = choose(self.job.workers, cluster)
            except UserError as error:
                waited = time.monotonic() - looked
                if waited >= (0.0 if local else _GROWING_S if cluster.grows else _JOINING_S):
                    raise
                seconds, waits = time.monotonic() - self.began, f"hosts: {error}"
            else:
                check_mesh(self.job.workers, placement)
                return cluster, placement
            if self.watch is not None:
                self.watch(before_it_begins(before, seconds=seconds, waiting_for=waits))
            if self.stop.wait(1.0):
                raise Interrupted

    def _work(self) -> Work:
        finished = [
            ShardDone(shard.shard, shard.rows, shard.rows_failed)
            for shard in self.progress
            if shard.finished
        ]
        covered = {
            shard.shard: shard.rows_done + shard.rows_failed
            for shard in self.progress
            if not shard.finished and shard.parts
        }
        return Work(self.plan.shards, finished, covered)

    def _conclude(
        self, end: End, dispatch: Dispatch, rates: Rates, journal: Journal, ids: IdCheck
    ) -> Summary:
        progress = read_progress(self.store, self.plan)
        summary = summary_of(
            believed(end, progress, self.store),
            progress,
            self.job.output.path,
            time.monotonic() - self.began,
            tokens_per_second=rates.mean,
            generated_tokens=generated(dispatch)[1],
            warning=ids.found() if end.outcome == "finished" else "",
        )
        journal.event("run", what="ended", outcome=summary.outcome, message=summary.message)
        speed, told = summary.tokens_per_second, {"message": summary.message}
        last = Heartbeat(summary.outcome, time.time(), tokens_per_second=speed, details=told)
        journal.close(last)
        if summary.outcome == "finished":
            mark_finished(self.store)
        return summary


def _others_at_it(store: RetryingStore) -> list[str]:
    said = read_heartbeat(store)
    ago = time.time() - said.updated if said is not None else 0.0
    if said is None or said.state != "running" or ago > _SAID_LATELY_S:
        return []
    where = f"{said.details.get('host', '?')}, process {said.details.get('pid', '?')}"
    return [
        f"another driver ({where}) said {ago:.0f} s ago that it is at this job; if it still is, "
        f"both share the work and no row comes twice"
    ]


def _before(plan: Plan, progress: Sequence[ShardProgress]) -> Before:
    return Before(
        rows=plan.rows,
        shards=len(plan.shards),
        rows_done=sum(shard.rows_done for shard in progress),
        rows_failed=sum(shard.rows_failed for shard in progress),
        shards_finished=sum(shard.finished for shard in progress),
        prompt_tokens=sum(shard.prompt_tokens for shard in progress),
        completion_tokens=sum(shard.completion_tokens for shard in progress),
    )


def _facts(placement: Placement, address: str) -> dict[str, Any]:
    versions = {
        "rgpipeline": __version__,
        "ray": ray.__version__,
        "python": platform.python_version(),
    }
    return {"versions": versions, "accelerator": str(placement), "address": address}
