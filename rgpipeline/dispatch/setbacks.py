"""How much goes wrong, and when it is too much."""

from dataclasses import dataclass

from rgpipeline.dispatch.policy import Policy
from rgpipeline.records import Fault


@dataclass(frozen=True, slots=True)
class Setback:
    """Why a worker was lost, in words for a person, and by whose fault."""

    reason: str
    fault: Fault = "worker"


class Setbacks:
    """Counts the workers that were lost by fault, and says when trying again makes no sense.

    Three things end a job: no worker can start; workers die again and again without a single row
    done in between; more died than the job file allows. Anything less is replaced, with growing
    pauses while it brings nothing.
    """

    def __init__(self, policy: Policy, fruitful: bool) -> None:
        """`fruitful`: rows were done already, in an earlier run."""
        self._policy = policy
        self.fruitful = fruitful
        self._failed_starts = 0  # in a row
        self._fruitless = 0  # deaths in a row without progress in between
        self._not_before = 0.0
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

    def death(self, setback: Setback, starting: bool, now: float) -> None:
        """A worker was lost; `starting`: before it was at work."""
        self.last = setback
        self.deaths += 1
        self._fruitless += 1
        self._failed_starts += starting
        if self._fruitless > 2:
            pause = min(2.0 ** (self._fruitless - 3), self._policy.max_backoff_s)
            self._not_before = now + pause

    def may_start(self, now: float, hopeful: bool) -> bool:
        """Whether a worker may be started now; `hopeful`: others are at it or about to be."""
        if hopeful and self._failed_starts >= self._policy.start_tries:
            return now >= self._not_before + self._policy.max_backoff_s
        return now >= self._not_before

    def verdict(self, wanted: int, hopeful: bool) -> str | None:
        """Why the job can't go on; None while it can."""
        last, policy = self.last, self._policy
        if last is None:
            return None
        if policy.max_restarts is not None and self.deaths > policy.max_restarts:
            return (
                f"workers were lost {self.deaths} times, more than faults.max_worker_restarts "
                f"({policy.max_restarts}); the last one: {last.reason}"
            )
        if not hopeful and self._failed_starts >= policy.start_tries:
            return f"no worker can start, tried {self._failed_starts} times: {last.reason}"
        allowed = policy.fruitless_deaths if self.fruitful else policy.first_deaths
        if self._fruitless >= allowed + wanted:
            return (
                f"{self._fruitless} workers in a row were lost before any row was done; "
                f"the last one: {last.reason}"
            )
        return None
