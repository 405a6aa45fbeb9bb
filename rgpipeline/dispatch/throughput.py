"""How fast a job generates, and how long it still takes."""

from collections import deque
from dataclasses import dataclass

from rgpipeline.spec import Columns, Job
from rgpipeline.tasks import task_of

_RECENT_S = 30.0


class TokenRates:
    """Tokens a second, from totals that are noted about once a second."""

    def __init__(self) -> None:
        self._notes: deque[tuple[float, int]] = deque()
        self._first: tuple[float, int] | None = None

    def note(self, now: float, tokens: int) -> None:
        """`tokens`: generated since this run began."""
        if self._first is None and tokens:
            # Begin at the last note without tokens: time spent opening engines does not count.
            self._first = self._notes[-1] if self._notes else (now, tokens)
        self._notes.append((now, tokens))
        while len(self._notes) > 2 and self._notes[1][0] <= now - _RECENT_S:
            self._notes.popleft()

    @property
    def recent(self) -> float:
        """Over the last 30 s."""
        return _rate(self._notes[0], self._notes[-1]) if self._notes else 0.0

    @property
    def mean(self) -> float:
        """Since the first token of this run."""
        return _rate(self._first, self._notes[-1]) if self._first and self._notes else 0.0


@dataclass(frozen=True, slots=True)
class RowTokens:
    """What is known of the tokens of a row before any row is done."""

    limit: int | None = None  # None: there is no limit, or rows have limits of their own
    all_reach_limit: bool = False  # nothing ends a row sooner

    @classmethod
    def of(cls, job: Job, columns: Columns) -> "RowTokens":
        """`columns`: the input's columns as the plan has found them."""
        sampling = job.sampling
        if (
            not task_of(job).uses_slots
            or sampling.max_tokens is None
            or columns.sampling is not None
        ):
            return cls()
        sooner = sampling.stop or sampling.stop_ids or not sampling.ignore_eos
        return cls(sampling.n * sampling.max_tokens, all_reach_limit=not sooner)


@dataclass(frozen=True, slots=True)
class Eta:
    """Seconds that are left; None while they are unknown."""

    seconds: float | None = None
    at_most: bool = False  # an upper bound: no row is done, so every row counts with its limit


def eta(left: int, done: int, tokens: int, per_second: float, row: RowTokens) -> Eta:
    """Estimates the time left: rows to come take as many tokens as those done, at most the limit.

    Args:
      left, done: rows.
      tokens: generated so far, also for rows that are not done.
      per_second: tokens a second.
      row: what is known of each row's tokens.
    """
    if not left:
        return Eta(0.0)
    if per_second <= 0.0 or not tokens:
        return Eta()
    mean = tokens / done if done else None
    if row.limit is not None and (row.all_reach_limit or mean is None or mean > row.limit):
        whole = (left + done) * row.limit
        return Eta(max(0, whole - tokens) / per_second, mean is None and not row.all_reach_limit)
    return Eta(left * mean / per_second) if mean is not None else Eta()


def _rate(first: tuple[float, int], last: tuple[float, int]) -> float:
    seconds = last[0] - first[0]
    return (last[1] - first[1]) / seconds if seconds > 0 else 0.0
