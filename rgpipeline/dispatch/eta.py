"""How long a job still takes: from the tokens that are left, not the rows."""

from dataclasses import dataclass

from rgpipeline.spec import Columns, Job


@dataclass(frozen=True, slots=True)
class RowTokens:
    """What is known of the tokens of a row before any is done."""

    most: int | None = None  # None: there is no limit, or rows have limits of their own
    all_take_most: bool = False  # nothing ends a row sooner

    @classmethod
    def of(cls, job: Job, columns: Columns) -> "RowTokens":
        """`columns`: which the plan found to mean what."""
        sampling = job.sampling
        if job.task == "score" or sampling.max_tokens is None or columns.sampling is not None:
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
