"""How fast a job generates, and how long it still takes."""

from collections import deque
from dataclasses import dataclass

from rgpipeline.spec import Columns, Job
from rgpipeline.tasks import task_of

_RECENT_S = 30.0


class TokenRates:
    """Tokens a second, from totals noted now and then."""

    def __init__(self) -> None:
        self._notes: deque[tuple[float, int]] = deque()
        self._first: tuple[float, int] | None = None

    def note(self, now: float, tokens: int) -> None:
        """`tokens`: generated since this run began."""
        if self._first is None and tokens:
            # The clock starts with the last moment without any: opening engines is no rate.
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
    """What is known of the tokens of a row before any is done."""

    most: int | None = None  # None: there is no limit, or rows have limits of their own
    all_take_most: bool = False  # nothing ends a row sooner

    @classmethod
    def of(cls, job: Job, columns: Columns) -> "RowTokens":
        """`columns`: which the plan found to mean what."""
        sampling = job.sampling
        if (
            not task_of(job).uses_slots
            or sampling.max_tokens is None
            or columns.sampling is not None
        ):
            return cls()
        sooner = sampling.stop or sampling.stop_ids or not sampling.ignore_eos
        return cls(sampling.n * sampling.max_tokens, all_take_most=not sooner)


@dataclass(frozen=True, slots=True)
class Eta:
    """Seconds that are left; None while nothing can be said."""

    seconds: float | None = None
    at_most: bool = False  # rows are reckoned at their limit, for none is done yet


def eta(left: int, done: int, tokens: int, per_second: float, row: RowTokens) -> Eta:
    """From rows `left` and `done`, and the `tokens` so far, those of rows under way included.

    Rows to come are reckoned as long as those done, and none longer than it can be.
    """
    if not left:
        return Eta(0.0)
    if per_second <= 0.0 or not tokens:
        return Eta()
    mean = tokens / done if done else None
    if row.most is not None and (row.all_take_most or mean is None or mean > row.most):
        whole = (left + done) * row.most
        return Eta(max(0, whole - tokens) / per_second, mean is None and not row.all_take_most)
    return Eta(left * mean / per_second) if mean is not None else Eta()


def _rate(first: tuple[float, int], last: tuple[float, int]) -> float:
    seconds = last[0] - first[0]
    return (last[1] - first[1]) / seconds if seconds > 0 else 0.0
