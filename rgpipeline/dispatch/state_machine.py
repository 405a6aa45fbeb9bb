"""The driver as a state machine: events in, commands out."""

from rgpipeline.dispatch.assigner import Assigner
from rgpipeline.dispatch.driver_messages import (
    Command,
    DesiredWorkers,
    DrainWorker,
    Event,
    JobEnded,
    KillWorker,
    StartWorker,
    StopRequested,
    StoreFull,
    Tick,
    WorkerDied,
    WorkerDraining,
    WorkerReported,
    WorkerStarted,
)
from rgpipeline.dispatch.failure_tracker import Failure, FailureTracker, Policy
from rgpipeline.dispatch.fleet import Fleet, Member, Phase
from rgpipeline.dispatch.work_queue import WorkQueue
from rgpipeline.records import WorkerReport

_ACTIVE = (Phase.PENDING, Phase.STARTING, Phase.READY)


class Dispatch:
    """One job's driver: call `handle` with every event, and carry out its commands."""

    def __init__(self, work: WorkQueue, policy: Policy) -> None:
        self.work = work
        self.fleet = Fleet()
        done_before = work.rows_finished + work.rows_covered - work.rows_failed
        self.failures = FailureTracker(policy, made_progress=done_before > 0)
        self._assigner = Assigner(work, self.fleet, policy.copies)
        self._policy = policy
        self._wanted = 0  # workers
        self._stopping = False
        self._commands: list[Command] = []
        self._end: JobEnded | None = None

    def handle(self, event: Event) -> list[Command]:
        """The commands that follow from `event`, in order; none after `JobEnded`."""
        if self._end is not None:
            return []
        match event:
            case DesiredWorkers():
                self._resize(event.workers)
            case StopRequested():
                self._stop(event.now)
            case StoreFull():
                self.failures.last = Failure(event.reason, "full")
            case Tick():
                self._enforce_deadlines(event.now)
            case _:
                self._handle_worker_event(event)
        self._end = self._conclusion(event.now)
        if self._end is None:
            self._start_workers(event.now)
        return self._take_commands()

    def _handle_worker_event(
        self, event: WorkerStarted | WorkerReported | WorkerDied | WorkerDraining
    ) -> None:
        member = self.fleet.get(event.worker)
        if member is None:
            return  # it was killed or lost: nothing that it says counts any more
        match event:
            case WorkerStarted():
                if member.phase is Phase.PENDING:
                    self.fleet.enter(member, Phase.STARTING, event.now)
            case WorkerReported():
                self._take_report(member, event.report, event.now)
            case WorkerDraining():
                self._drain(member, event.now)
            case WorkerDied():
                blameless = member.phase is Phase.LEAVING or event.loss == "removed"
                self._lose(member, None if blameless else Failure(event.reason), event.now)

    def _take_report(self, member: Member, report: WorkerReport, now: float) -> None:
        if report.saved > member.report.saved or report.rows_done > member.report.rows_done:
            self.failures.progress()
        member.update(report, now)
        for done in report.finished:
            if self._assigner.finish(done):
                self.failures.progress()
        if report.error is not None:
            fault = report.fault or "worker"
            failure = Failure(report.error, fault, report.raised_at, report.in_engine)
            self._kill(member, failure, now)
        elif report.stopped:
            self._kill(member, None, now, "it has published everything and left")
        elif report.slots and member.phase in (Phase.PENDING, Phase.STARTING):
            self.fleet.enter(member, Phase.READY, now)
            self.failures.started()
        if member.phase is Phase.READY and member.name in self.fleet:
            self._assigner.feed(member, now, fresh_first=self.failures.recurrence.count > 0)

    def _drain(self, member: Member, now: float) -> None:
        """Tells the worker to publish and leave; others get what it has not started at once."""
        if member.phase is Phase.LEAVING:
            return
        if member.phase is not Phase.READY:
            self._kill(member, None, now, "it was told to go before it was at work")
            return
        self.fleet.enter(member, Phase.LEAVING, now)
        self._commands.append(DrainWorker(member.name))
        self._assigner.release_unstarted(member)

    def _kill(self, member: Member, failure: Failure | None, now: float, reason: str = "") -> None:
        """Kills the worker; `reason` counts where there is no failure."""
        self._commands.append(KillWorker(member.name, failure.reason if failure else reason))
        self._lose(member, failure, now)

    def _lose(self, member: Member, failure: Failure | None, now: float) -> None:
        """The worker is gone; `failure` is None when it is not to blame."""
        self.fleet.remove(member)
        if failure is not None:
            starting = member.phase in (Phase.PENDING, Phase.STARTING)
            self.failures.death(failure, starting, now, list(member.assigned))
            if failure.fault == "worker":
                # Before any row was done, workers die of something else than a row.
                self._assigner.suspect(member, failure.reason, self.failures.made_progress)
        self._assigner.release_all(member)

    def _enforce_deadlines(self, now: float) -> None:
        for member in self.fleet:
            waited, silent = now - member.since, now - member.progress_at
            policy = self._policy
            if member.phase is Phase.PENDING and waited > policy.pending_timeout_s:
                self._kill(member, None, now, f"no sign of it for {waited:.0f} s")
            elif member.phase is Phase.STARTING and waited > policy.start_timeout_s:
                reason = f"its engine was not open after {waited:.0f} s"
                self._kill(member, Failure(reason), now)
            elif (
                member.phase is Phase.READY and member.assigned and silent > policy.worker_timeout_s
            ):
                reason = f"no progress for {silent:.0f} s (faults.worker_timeout_s)"
                self._kill(member, Failure(reason), now)
            elif member.phase is Phase.READY and now - member.reported_at > policy.silence_s:
                reason = f"no word from it for {now - member.reported_at:.0f} s"
                self._kill(member, Failure(reason), now)
            elif member.phase is Phase.LEAVING and waited > policy.drain_timeout_s:
                self._kill(member, None, now, f"it had not left after {waited:.0f} s")

    def _resize(self, wanted: int) -> None:
        """Takes the number of workers wanted. Surplus ones go that still wait for room."""
        self._wanted = wanted
        surplus = self.fleet.count(*_ACTIVE) - wanted
        for member in [m for m in self.fleet if m.phase is Phase.PENDING][: max(0, surplus)]:
            self._commands.append(KillWorker(member.name, "there is no room for it"))
            self.fleet.remove(member)

    def _stop(self, now: float) -> None:
        self._stopping = True
        for member in self.fleet:
            self._drain(member, now)

    def _start_workers(self, now: float) -> None:
        if self._stopping:
            return
        wanted = min(self._wanted, self.work.units_left)
        missing = wanted - self.fleet.count(*_ACTIVE)
        if missing > 0 and self.failures.may_start(now, self.fleet.may_get_workers(now)):
            for _ in range(missing):
                self._commands.append(StartWorker(self.fleet.add(now).name))

    def _conclusion(self, now: float) -> JobEnded | None:
        """How the job ends, if it ends now."""
        allowed, failed = self._policy.max_failed_rows, self.work.rows_failed
        if allowed is not None and failed > allowed:
            rows = "row has" if failed == 1 else "rows have"
            reason = f"{failed} {rows} failed, faults.max_failed_rows is {allowed}"
            return JobEnded("failed", reason)
        if self.work.done:
            return JobEnded("finished")
        last = self.failures.last
        if last is not None and last.fault == "full":
            return JobEnded("failed", last.reason)  # no other worker could publish more
        if self._stopping:
            return JobEnded("stopped") if len(self.fleet) == 0 else None
        if last is None:
            return None
        users_fault = last.fault == "user"
        if users_fault and not self.failures.ever_started:
            return JobEnded("failed", last.reason, users_fault=True)
        spared = self.fleet.at_work_before(self.failures.recurrence.since)
        may_get_workers = self.fleet.may_get_workers(now)
        message = self.failures.abort_reason(self._wanted, may_get_workers, spared)
        return JobEnded("failed", message, users_fault) if message else None

    def _take_commands(self) -> list[Command]:
        """The commands since the last call; `JobEnded` is always last."""
        ended = [self._end] if self._end is not None else []
        commands = [*self._commands, *self._assigner.take_changes(), *ended]
        self._commands = []
        return commands
