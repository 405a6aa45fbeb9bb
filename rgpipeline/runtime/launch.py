"""`run`: a job from its plan to its last row."""

import platform
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from rgpipeline import __version__
from rgpipeline.dispatch import Dispatch, End, Policy, Work
from rgpipeline.dispatch.view import Before, JobView, Rates, generated
from rgpipeline.errors import UserError
from rgpipeline.io.snapshots import Snapshots
from rgpipeline.io.store import Store, open_store
from rgpipeline.output import (
    Heartbeat,
    ShardProgress,
    read_heartbeat,
    read_progress,
    write_success,
)
from rgpipeline.output.summary import Summary
from rgpipeline.plan import Plan, open_or_create
from rgpipeline.records import ShardDone
from rgpipeline.runtime.actors import RayActors
from rgpipeline.runtime.crew import Crew
from rgpipeline.runtime.driver import Driver
from rgpipeline.runtime.journal import Journal
from rgpipeline.runtime.metrics import JobMetrics
from rgpipeline.runtime.nodes import Cluster, look
from rgpipeline.runtime.placement import Placement, choose
from rgpipeline.runtime.session import connected
from rgpipeline.runtime.signals import stopping_on_signals
from rgpipeline.runtime.watchers import NodeWatch
from rgpipeline.spec import Job
from rgpipeline.worker import EngineFactory

_JOINING_S = 30.0  # a cluster that was started a moment ago may still lack its hosts
_SAID_LATELY_S = 30.0


def run(
    job: Job,
    *,
    address: str = "auto",
    watch: Callable[[JobView], None] | None = None,
    stop: threading.Event | None = None,
    open_engine: EngineFactory | None = None,
) -> Summary:
    """Does all of a job that is not done, on a Ray cluster; returns how it ended.

    Args:
      job: what to do. Running the same again goes on where it ended.
      address: `auto` (the cluster that is here, else one of our own), `local` or an address.
      watch: called about once a second with how the job stands.
      stop: once set, workers publish what they have and leave; so do SIGINT, SIGTERM and
        `rgpipeline stop`. The outcome is then `interrupted`.
      open_engine: opens what workers generate with; default: the job's model.

    Raises:
      UserError: a mistake that is seen before any worker starts. Later ones are in the summary.
    """
    began = time.monotonic()
    store = open_store(job.output.path, job.storage_options)
    plan = open_or_create(job, store)
    progress = read_progress(store, plan)
    if all(shard.finished for shard in progress):
        _mark_finished(store)
        return _summary(job, progress, End("finished"), time.monotonic() - began, None)
    run_ = _Run(job, plan, store, progress, stop or threading.Event(), watch, open_engine)
    with connected(address) as where, stopping_on_signals(run_.stop):
        return run_.drive(where, began)


@dataclass(frozen=True)
class _Run:
    """One call of `run` that has something to do."""

    job: Job
    plan: Plan
    store: Store
    progress: Sequence[ShardProgress]
    stop: threading.Event
    watch: Callable[[JobView], None] | None
    open_engine: EngineFactory | None

    def drive(self, address: str, began: float) -> Summary:
        cluster, placement = _find_room(self.job, patient=address != "local", stop=self.stop)
        warnings = [*self.plan.warnings, *_others_at_it(self.store)]
        journal = Journal(self.store, self.stop.set)
        nodes = NodeWatch(cluster)
        crew = Crew(RayActors(self.job, self.plan, placement, nodes.node, self.open_engine))
        dispatch = Dispatch(self._work(), Policy.of(self.job.faults))
        driver = Driver(
            dispatch,
            crew,
            journal,
            nodes,
            JobMetrics(self.job.name),
            workers=self.job.workers,
            placement=placement,
            before=_before(self.plan, self.progress),
            stop=self.stop,
            watch=self.watch,
            warnings=warnings,
        )
        journal.event("run", what="began", **_facts(placement, address))
        journal.open()
        nodes.open()
        try:
            end = driver.run()
        except KeyboardInterrupt:  # the second Ctrl-C: now
            end = End("stopped")
        finally:
            nodes.close()
            crew.kill_all()
        return self._conclude(end, dispatch, driver.rates, journal, began)

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
        self, end: End, dispatch: Dispatch, rates: Rates, journal: Journal, began: float
    ) -> Summary:
        progress = read_progress(self.store, self.plan)
        if end.outcome == "finished":
            end = _believed(end, progress, self.store)
        summary = _summary(self.job, progress, end, time.monotonic() - began, (dispatch, rates))
        journal.event("run", what="ended", outcome=summary.outcome, message=summary.message)
        journal.close(
            Heartbeat(
                summary.outcome,
                time.time(),
                tokens_per_second=summary.tokens_per_second,
                details={"message": summary.message},
            )
        )
        if summary.outcome == "finished":
            _mark_finished(self.store)
        return summary


def _find_room(job: Job, patient: bool, stop: threading.Event) -> tuple[Cluster, Placement]:
    """Where workers go. Raises UserError when the cluster has no place for any."""
    patience = time.monotonic() + (_JOINING_S if patient else 0.0)
    while True:
        cluster = look()
        try:
            return cluster, choose(job.workers, cluster)
        except UserError:
            if time.monotonic() >= patience or stop.wait(1.0):
                raise


def _others_at_it(store: Store) -> list[str]:
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


def _believed(end: End, progress: Sequence[ShardProgress], store: Store) -> End:
    """Finished is what the log says is finished, not what workers say."""
    missing = [shard.shard for shard in progress if not shard.finished]
    if not missing:
        return end
    named = ", ".join(map(str, missing[:5])) + (" …" if len(missing) > 5 else "")
    return End(
        "failed",
        f"{store.url()}: shards {named} lack rows that workers have published; was something "
        f"removed from the output? Run the same job again",
    )


def _mark_finished(store: Store) -> None:
    write_success(store)
    Snapshots(store).remove_everything()


def _summary(
    job: Job,
    progress: Sequence[ShardProgress],
    end: End,
    seconds: float,
    done: tuple[Dispatch, Rates] | None,
) -> Summary:
    failed = sum(shard.rows_failed for shard in progress)
    outcome, code = _outcome(end, failed)
    message = end.message
    if outcome == "interrupted":
        message = "stopped; what is finished is published, and the same job again goes on from here"
    return Summary(
        outcome=outcome,  # type: ignore[arg-type]
        exit_code=code,
        message=message,
        rows=sum(shard.rows for shard in progress),
        rows_done=sum(shard.rows_done for shard in progress),
        rows_failed=failed,
        prompt_tokens=sum(shard.prompt_tokens for shard in progress),
        completion_tokens=sum(shard.completion_tokens for shard in progress),
        seconds=seconds,
        tokens_per_second=done[1].mean if done else 0.0,
        generated_tokens=generated(done[0])[1] if done else 0,
        output=job.output.path,
        already_done=done is None,
    )


def _outcome(end: End, failed: int) -> tuple[str, int]:
    match end.outcome:
        case "finished":
            return "finished", 3 if failed else 0
        case "stopped":
            return "interrupted", 130
        case _:
            return "failed", 2 if end.users_fault else 1
