"""How many failures a job may have, and how many it has had."""

from collections.abc import Sequence
from dataclasses import dataclass

from rgpipeline.records import AssignmentKey, Fault
from rgpipeline.spec import FaultsSpec

_SILENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits for workers and their failures. Times in seconds."""

    worker_timeout_s: float = 300.0  # without progress of engine or log, while it has work
    # For a worker that waits for room in the cluster. It may be stuck where nobody can see it; if
    # it does wait, its replacement waits as well, so nothing is lost.
    pending_timeout_s: float = 900.0
    start_timeout_s: float = 1800.0  # from process to open engine: big weights load slowly
    silence_s: float = _SILENCE_S  # without a report from a worker that has no work
    drain_timeout_s: float = 120.0  # from the order to leave until it has left
    max_restarts: int | None = None  # after crashes and hangs; None: only the limits below apply
    start_tries: int = 3  # failed starts in a row, with no worker running
    # Deaths in a row without a row done in between. One more is allowed for each worker wanted.
    deaths_before_first_row: int = 6  # as long as the job has no row done at all
    deaths_without_progress: int = 10  # later
    max_backoff_s: float = 60.0  # the longest pause before a new start
    # Deaths before a shard is suspected, and before a row that ran alone is marked as poison.
    failures_to_suspect: int = 2
    copies: int = 2  # workers on one shard when no other work is left
    max_failed_rows: int | None = None

    @classmethod
    def of(cls, faults: FaultsSpec) -> "Policy":
        """The limits that a job file's `faults:` sets."""
        return cls(
            worker_timeout_s=faults.worker_timeout_s,
            silence_s=max(_SILENCE_S, faults.worker_timeout_s),
            max_restarts=faults.max_worker_restarts,
            max_failed_rows=faults.max_failed_rows,
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a worker was lost, in words for a person, and by whose fault."""

    reason: str
    fault: Fault = "worker"
    raised_at: str = ""  # type and line of code of an exception; empty where none was reported
    in_engine: bool = False  # a row in the worker's slots may be to blame


class Recurrence:
    """Workers lost in a row by one exception, raised at one line, with no progress in between."""

    def __init__(self) -> None:
        self.count = 0
        self.since = 0.0  # when the first of them was lost
        self.failure = Failure("")
        self.shared: list[AssignmentKey] = []  # rows assigned to all of them: may be the cause

    def end(self) -> None:
        """Some worker made progress, so not all of them meet the exception."""
        self.count = 0

    def add(self, failure: Failure, assigned: Sequence[AssignmentKey], now: float) -> None:
        """A worker was lost to which these rows were assigned."""
        if not failure.raised_at:
            self.count = 0
        elif self.count and failure == self.failure:
            self.count += 1
            self.shared = [
                rows for a in self.shared for b in assigned if (rows := _common_rows(a, b))
            ]
        else:
            self.count, self.since = 1, now
            self.failure, self.shared = failure, list(assigned)


class FailureTracker:
    """Counts workers lost by fault, and says when the job must be aborted.

    Four things abort a job: no worker can start; every worker meets the same exception; workers
    die again and again without a row done in between; more died than the job file allows. After
    any other failure the worker is replaced, with growing pauses while there is no progress.
    """

    def __init__(self, policy: Policy, made_progress: bool) -> None:
        """`made_progress`: an earlier run of the job has done rows."""
        self._policy = policy
        self.made_progress = made_progress
        self._failed_starts = 0  # in a row
        self._deaths_in_a_row = 0  # without progress in between
        self._not_before = 0.0  # earliest time of the next start
        self.recurrence = Recurrence()
        self.ever_started = False
        self.deaths = 0
        self.last: Failure | None = None

    def started(self) -> None:
        """A worker's engine is open."""
        self.ever_started = True
        self._failed_starts = 0

    def progress(self) -> None:
        """Rows were done, or parts or snapshots of them were saved."""
        self.made_progress = True
        self._deaths_in_a_row = 0
        self.recurrence.end()

    def death(
        self, failure: Failure, starting: bool, now: float, assigned: Sequence[AssignmentKey] = ()
    ) -> None:
        """A worker was lost; `starting`: its engine was not open yet."""
        self.last = failure
        self.deaths += 1
        self._deaths_in_a_row += 1
        self._failed_starts += starting
        self.recurrence.add(failure, assigned, now)
        if self._deaths_in_a_row > 2:
            pause = min(2.0 ** (self._deaths_in_a_row - 3), self._policy.max_backoff_s)
            self._not_before = now + pause

    def may_start(self, now: float, may_get_workers: bool) -> bool:
        """Whether a worker may be started now.

        `may_get_workers`: others are running or starting, so a failing start is not urgent.
        """
        if may_get_workers and self._failed_starts >= self._start_tries:
            return now >= self._not_before + self._policy.max_backoff_s
        return now >= self._not_before

    def abort_reason(self, wanted: int, may_get_workers: bool, spared: bool = False) -> str | None:
        """Why the job must be aborted; None while it can continue.

        Args:
          wanted: how many workers the job wants.
          may_get_workers: some worker is running or may be soon.
          spared: some worker has been running since before the latest exception first came.
        """
        last, policy = self.last, self._policy
        if last is None:
            return None
        if policy.max_restarts is not None and self.deaths > policy.max_restarts:
            return (
                f"workers were lost {self.deaths} times, more than faults.max_worker_restarts "
                f"({policy.max_restarts}); the last one: {last.reason}"
            )
        if not may_get_workers and self._failed_starts >= self._start_tries:
            return f"no worker can start, tried {self._failed_starts} times: {last.reason}"
        if self._all_meet_it and not spared:
            return f"{self.recurrence.count} workers in a row met the same error: {last.reason}"
        allowed = policy.deaths_before_first_row
        when = "before any row was done"
        if self.made_progress:
            allowed, when = policy.deaths_without_progress, "and no row was done in between"
        if self._deaths_in_a_row >= allowed + wanted:
            lost = f"{self._deaths_in_a_row} workers in a row were lost {when}"
            return f"{lost}; the last one: {last.reason}"
        return None

    @property
    def _start_tries(self) -> int:
        alike = self.recurrence.count == self._failed_starts
        return min(self._policy.start_tries, 2) if alike else self._policy.start_tries

    @property
    def _all_meet_it(self) -> bool:
        """Whether every worker meets the same exception, whatever its rows.

        Where a row may be the cause, that row is searched for by halving, and the job continues.
        """
        met = self.recurrence
        if met.count < 2 or self._failed_starts:
            return False
        return not met.failure.in_engine or not (self.made_progress or met.shared)


def _common_rows(one: AssignmentKey, other: AssignmentKey) -> AssignmentKey | None:
    """The rows that are in both."""
    start, stop = max(one.start, other.start), min(one.stop, other.stop)
    if one.shard != other.shard or start >= stop:
        return None
    return AssignmentKey(one.shard, start, stop)
