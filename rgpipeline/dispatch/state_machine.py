"""The driver as a state machine: events in, commands out."""

from rgpipeline.assignments import WorkerReport
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
    WorkerDied,
    WorkerDraining,
    WorkerReported,
    WorkerStarted,
)
from rgpipeline.dispatch.failure_tracker import Failure, FailureTracker, Policy
from rgpipeline.dispatch.fleet import Fleet, Member, Phase
from rgpipeline.dispatch.sharing import choose_unit
from rgpipeline.dispatch.work_queue import WorkQueue, WorkUnit

_ACTIVE = (Phase.PENDING, Phase.STARTING, Phase.READY)


class Dispatch:
    """One job's driver. `handle` is called with every event, and its commands are carried out."""

    def __init__(self, work: WorkQueue, policy: Policy) -> None:
        self.work = work
        self.fleet = Fleet()
        done_before = work.rows_finished + work.rows_covered - work.rows_failed
        self.failures = FailureTracker(policy, made_progress=done_before > 0)
        self._policy = policy
        self._wanted = 0  # workers
        self._stopping = False
        self._commands: list[Command] = []
        self._holding_anew: dict[str, Member] = {}
        self._end: JobEnded | None = None

    def handle(self, event: Event) -> list[Command]:
        """What is to be done about `event`, in order; nothing any more once `JobEnded` was said."""
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
                self._of_a_worker(event)
        self._end = self._end or self._conclusion(event.now)
        if self._end is None:
            self._start_workers(event.now)
        return self._take_commands()

    def _of_a_worker(
        self, event: WorkerStarted | WorkerReported | WorkerDied | WorkerDraining
    ) -> None:
        member = self.fleet.get(event.worker)
        if member is None:
            return  # it was given up: whatever it says, nobody listens
        match event:
            case WorkerStarted():
                if member.phase is Phase.PENDING:
                    self.fleet.enter(member, Phase.STARTING, event.now)
            case WorkerReported():
                self._hear(member, event.report, event.now)
            case WorkerDraining():
                self._let_go(member, event.now)
            case WorkerDied():
                blameless = member.phase is Phase.LEAVING or event.loss == "removed"
                self._lose(member, None if blameless else Failure(event.reason), event.now)

    def _hear(self, member: Member, report: WorkerReport, now: float) -> None:
        if report.saved > member.report.saved or report.rows_done > member.report.rows_done:
            self.failures.progress()
        member.hear(report, now)
        for done in report.finished:
            unit = self.work.finish(done)
            if unit is not None:
                for holder in self._holders(unit):
                    holder.credit(unit)
                self._take_from_all(unit)
                if not unit.assignment.failed:
                    self.failures.progress()
        if report.error is not None:
            fault = report.fault or "worker"
            failure = Failure(report.error, fault, report.raised_at, report.in_engine)
            self._give_up(member, failure, now)
        elif report.stopped:
            self._commands.append(KillWorker(member.name, "it has published everything and left"))
            self._lose(member, None, now)
        elif report.slots and member.phase in (Phase.PENDING, Phase.STARTING):
            self.fleet.enter(member, Phase.READY, now)
            self.failures.started()
        if member.phase is Phase.READY and member.name in self.fleet:
            self._feed(member, now)

    def _feed(self, member: Member, now: float) -> None:
        """Gives the worker what keeps its slots full."""
        copies, fresh_first = self._policy.copies, self.failures.recurrence.count > 0
        while share := choose_unit(self.work, self.fleet, member, copies, fresh_first):
            if share.taken_from is not None:
                self._take_from(share.taken_from, share.unit)
            if not member.held:
                member.progress_at = now  # it idled until now, and had no progress to make
            share.unit.workers.add(member.name)
            share.unit.saved = member.report.saved
            member.held[share.unit.key] = share.unit
            self._holding_anew[member.name] = member

    def _take_from(self, member: Member, unit: WorkUnit) -> None:
        unit.workers.discard(member.name)
        del member.held[unit.key]
        self._holding_anew[member.name] = member

    def _take_from_all(self, unit: WorkUnit) -> None:
        """It is finished, or cut into others."""
        for member in self._holders(unit):
            self._take_from(member, unit)

    def _holders(self, unit: WorkUnit) -> list[Member]:
        members = (self.fleet.get(name) for name in unit.workers)
        return [member for member in members if member is not None]

    def _let_go(self, member: Member, now: float) -> None:
        """The worker shall publish and leave; what it has not begun goes to others at once."""
        if member.phase is Phase.LEAVING:
            return
        if member.phase is not Phase.READY:
            self._give_up(member, None, now, "it was told to go before it was at work")
            return
        self.fleet.enter(member, Phase.LEAVING, now)
        self._commands.append(DrainWorker(member.name))
        for unit in list(member.held.values()):
            if unit.key.shard not in member.begun:
                self._take_from(member, unit)
                self.work.release(unit, member.name)

    def _give_up(
        self, member: Member, failure: Failure | None, now: float, reason: str = ""
    ) -> None:
        """Kills the worker; whatever it still says is nobody's."""
        self._commands.append(KillWorker(member.name, failure.reason if failure else reason))
        self._lose(member, failure, now)

    def _lose(self, member: Member, failure: Failure | None, now: float) -> None:
        """The worker is gone; `failure` is None when that was nobody's fault."""
        self.fleet.remove(member)
        self._holding_anew.pop(member.name, None)
        for unit in member.held.values():
            unit.workers.discard(member.name)
        if failure is not None:
            starting = member.phase in (Phase.PENDING, Phase.STARTING)
            self.failures.death(failure, starting, now, list(member.held))
            if failure.fault == "worker":
                self._suspect(list(member.held.values()), failure, member.report.saved)
        for unit in member.held.values():
            self.work.release(unit, member.name)

    def _suspect(self, units: list[WorkUnit], failure: Failure, saved: int) -> None:
        """Any unit that it held: what it said last of its slots may be long past."""
        for unit in units:
            reason = f"its worker was lost again and again: {failure.reason}"
            # PublishedBefore any row was done, it is no row's fault that workers die.
            if self.work.record_failure(unit, reason, self.failures.made_progress, saved):
                self._take_from_all(unit)

    def _enforce_deadlines(self, now: float) -> None:
        for member in self.fleet:
            waited, silent = now - member.since, now - member.progress_at
            policy = self._policy
            if member.phase is Phase.PENDING and waited > policy.pending_timeout_s:
                self._give_up(member, None, now, f"no sign of it for {waited:.0f} s")
            elif member.phase is Phase.STARTING and waited > policy.start_timeout_s:
                reason = f"its engine was not open after {waited:.0f} s"
                self._give_up(member, Failure(reason), now)
            elif member.phase is Phase.READY and member.held and silent > policy.worker_timeout_s:
                reason = f"no progress for {silent:.0f} s (faults.worker_timeout_s)"
                self._give_up(member, Failure(reason), now)
            elif member.phase is Phase.READY and now - member.heard_at > policy.silence_s:
                reason = f"no word from it for {now - member.heard_at:.0f} s"
                self._give_up(member, Failure(reason), now)
            elif member.phase is Phase.LEAVING and waited > policy.drain_timeout_s:
                self._give_up(member, None, now, f"it had not left after {waited:.0f} s")

    def _resize(self, wanted: int) -> None:
        """More are started later; of too many, those go that the cluster has no room for."""
        self._wanted = wanted
        surplus = self.fleet.count(*_ACTIVE) - wanted
        for member in [m for m in self.fleet if m.phase is Phase.PENDING][: max(0, surplus)]:
            self._commands.append(KillWorker(member.name, "there is no room for it"))
            self.fleet.remove(member)

    def _stop(self, now: float) -> None:
        self._stopping = True
        for member in self.fleet:
            self._let_go(member, now)

    def _start_workers(self, now: float) -> None:
        if self._stopping:
            return
        wanted = min(self._wanted, self.work.units_left)
        missing = wanted - self.fleet.count(*_ACTIVE)
        if missing > 0 and self.failures.may_start(now, self.fleet.may_get_workers(now)):
            for _ in range(missing):
                self._commands.append(StartWorker(self.fleet.add(now).name))

    def _conclusion(self, now: float) -> JobEnded | None:
        allowed, failed = self._policy.max_failed_rows, self.work.rows_failed
        if allowed is not None and failed > allowed:
            rows = "row has" if failed == 1 else "rows have"
            return JobEnded(
                "failed", f"{failed} {rows} failed, faults.max_failed_rows is {allowed}"
            )
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
        message = self.failures.abort_reason(self._wanted, self.fleet.may_get_workers(now), spared)
        return JobEnded("failed", message, users_fault) if message else None

    def _take_commands(self) -> list[Command]:
        """What has gathered; `JobEnded` is always last."""
        holds = [
            SetAssignments(name, tuple(unit.assignment for unit in member.held.values()))
            for name, member in self._holding_anew.items()
        ]
        commands: list[Command] = [*self._commands, *holds, *([self._end] if self._end else [])]
        self._commands, self._holding_anew = [], {}
        return commands
