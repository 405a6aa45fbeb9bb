"""The numbers the driver goes by."""

from collections.abc import Sequence
from dataclasses import dataclass

from rgpipeline.records import AssignmentKey, Fault
from rgpipeline.spec import FaultsSpec

_SILENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Policy:
    """What is put up with, and for how long. Times in seconds."""

    worker_timeout_s: float = 300.0  # with work, but neither engine nor log makes progress
    # Without a sign of a worker that waits for room. It may be stuck where nobody can tell; if it
    # does wait, another in its place waits as well.
    pending_timeout_s: float = 900.0
    start_timeout_s: float = 1800.0  # from process to open engine: big weights load slowly
    silence_s: float = _SILENCE_S  # without a word from a worker that has nothing to do
    drain_timeout_s: float = 120.0  # from being told to go to being gone
    max_restarts: int | None = None  # after crashes and hangs, in all; None has only the next two
    start_tries: int = 3  # failed starts in a row, with no worker at work
    # Deaths in a row with no row done in between, beside one for each worker wanted: before any
    # row was done, and later.
    first_deaths: int = 6
    fruitless_deaths: int = 10
    max_backoff_s: float = 60.0  # before the next start, after fruitless ones
    strikes: int = 2  # deaths before a shard is suspected, and a row alone found guilty
    copies: int = 2  # workers on one shard at the tail
    max_failed_rows: int | None = None

    @classmethod
    def of(cls, faults: FaultsSpec) -> "Policy":
        return cls(
            worker_timeout_s=faults.worker_timeout_s,
            silence_s=max(_SILENCE_S, faults.worker_timeout_s),
            max_restarts=faults.max_worker_restarts,
            max_failed_rows=faults.max_failed_rows,
        )


@dataclass(frozen=True, slots=True)
class Setback:
    """Why a worker was lost, in words for a person, and by whose fault."""

    reason: str
    fault: Fault = "worker"
    raised_at: str = ""  # where in the code; empty where no exception was reported
    in_engine: bool = False  # a row in its slots may be to blame


class Recurrence:
    """Workers lost in a row by one exception, raised in one place, and nothing done in between."""

    def __init__(self) -> None:
        self.count = 0
        self.since = 0.0  # when the first of them was lost
        self._setback = Setback("")
        self._shared: list[AssignmentKey] = []  # rows that all of them held

    @property
    def in_engine(self) -> bool:
        return self._setback.in_engine

    @property
    def has_shared_rows(self) -> bool:
        """Whether all of them held some same row, which may be what they died of."""
        return bool(self._shared)

    def end(self) -> None:
        """Something was done, so not every worker meets it."""
        self.count = 0

    def add(self, setback: Setback, held: Sequence[AssignmentKey], now: float) -> None:
        """A worker was lost that held these rows."""
        if not setback.raised_at:
            self.count = 0
        elif self.count and setback == self._setback:
            self.count += 1
            self._shared = [rows for a in self._shared for b in held if (rows := _common(a, b))]
        else:
            self.count, self.since = 1, now
            self._setback, self._shared = setback, list(held)


class Setbacks:
    """Counts the workers that were lost by fault, and says when trying again makes no sense.

    Four things end a job: no worker can start; every worker meets the same exception; workers die
    again and again without a single row done in between; more died than the job file allows.
    Anything less is replaced, with growing pauses while it brings nothing.
    """

    def __init__(self, policy: Policy, fruitful: bool) -> None:
        """`fruitful`: rows were done already, in an earlier run."""
        self._policy = policy
        self.fruitful = fruitful
        self._failed_starts = 0  # in a row
        self._fruitless = 0  # deaths in a row without progress in between
        self._not_before = 0.0
        self.recurrence = Recurrence()
        self.ever_started = False
        self.deaths = 0
        self.last: Setback | None = None

    def started(self) -> None:
        """A worker's engine is open."""
        self.ever_started = True
        self._failed_starts = 0

    def progress(self) -> None:
        """Rows were done, or something of them was saved."""
        self.fruitful = True
        self._fruitless = 0
        self.recurrence.end()

    def death(
        self, setback: Setback, starting: bool, now: float, held: Sequence[AssignmentKey] = ()
    ) -> None:
        """A worker was lost that held these rows; `starting`: before it was at work."""
        self.last = setback
        self.deaths += 1
        self._fruitless += 1
        self._failed_starts += starting
        self.recurrence.add(setback, held, now)
        if self._fruitless > 2:
            pause = min(2.0 ** (self._fruitless - 3), self._policy.max_backoff_s)
            self._not_before = now + pause

    def may_start(self, now: float, hopeful: bool) -> bool:
        """Whether a worker may be started now; `hopeful`: others are at it or about to be."""
        if hopeful and self._failed_starts >= self._start_tries:
            return now >= self._not_before + self._policy.max_backoff_s
        return now >= self._not_before

    def verdict(self, wanted: int, hopeful: bool, spared: bool = False) -> str | None:
        """Why the job can't go on; None while it can.

        `spared`: some worker has been at work since before the latest exception first came.
        """
        last, policy = self.last, self._policy
        if last is None:
            return None
        if policy.max_restarts is not None and self.deaths > policy.max_restarts:
            return (
                f"workers were lost {self.deaths} times, more than faults.max_worker_restarts "
                f"({policy.max_restarts}); the last one: {last.reason}"
            )
        if not hopeful and self._failed_starts >= self._start_tries:
            return f"no worker can start, tried {self._failed_starts} times: {last.reason}"
        if self._everyone_meets_it and not spared:
            return f"{self.recurrence.count} workers in a row met the same error: {last.reason}"
        allowed = policy.fruitless_deaths if self.fruitful else policy.first_deaths
        if self._fruitless >= allowed + wanted:
            done = "and no row was done in between" if self.fruitful else "before any row was done"
            return (
                f"{self._fruitless} workers in a row were lost {done}; the last one: {last.reason}"
            )
        return None

    @property
    def _start_tries(self) -> int:
        alike = self.recurrence.count == self._failed_starts
        return min(self._policy.start_tries, 2) if alike else self._policy.start_tries

    @property
    def _everyone_meets_it(self) -> bool:
        """Not where a row may be to blame: that one is found by halving what was held."""
        met = self.recurrence
        if met.count < 2 or self._failed_starts:
            return False
        return not met.in_engine or not (self.fruitful or met.has_shared_rows)


def _common(one: AssignmentKey, other: AssignmentKey) -> AssignmentKey | None:
    """The rows that are in both."""
    start, stop = max(one.start, other.start), min(one.stop, other.stop)
    if one.shard != other.shard or start >= stop:
        return None
    return AssignmentKey(one.shard, start, stop)
