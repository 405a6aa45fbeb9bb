"""How a job stands, for people: its speed, the time left, and every worker."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from rgpipeline.dispatch.fleet import Member
from rgpipeline.dispatch.state_machine import Dispatch
from rgpipeline.records import PublishedTotals
from rgpipeline.spec import Columns, Job
from rgpipeline.tasks import task_of
from rgpipeline.wording import amount

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


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker, as it last reported."""

    name: str
    host: str  # empty until it is known
    state: str  # a `Phase`'s words
    slots: int = 0
    occupied: int = 0
    waiting: int = 0  # rows that have no slot yet
    prompt_tokens: int = 0
    completion_tokens: int = 0
    rows_done: int = 0
    rows_failed: int = 0
    details: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobView(PublishedTotals):
    """The whole job, with rows under way; rates in tokens generated a second."""

    tokens_per_second: float = 0.0  # of the last 30 s
    mean_tokens_per_second: float = 0.0  # of this run
    eta_seconds: float | None = None
    eta_at_most: bool = False  # it is an upper bound, since no row is done yet
    seconds: float = 0.0  # since this run began
    deaths: int = 0  # workers lost by fault
    waiting_for: str = ""  # why workers are missing, or have nothing to do; empty when all is well
    latest_completion: str = ""
    warnings: tuple[str, ...] = ()
    workers: tuple[WorkerView, ...] = ()

    @property
    def reading(self) -> str:
        """How far prompts are read; empty once tokens are generated."""
        done, tokens = (
            sum(worker.details.get(name, 0) for worker in self.workers)
            for name in ("reading_done", "reading_tokens")
        )
        if self.tokens_per_second or not tokens:
            return ""
        return f"reading prompts: {amount(done)} of {amount(tokens)} tokens"


def view(
    dispatch: Dispatch,
    before: PublishedTotals,
    rates: TokenRates,
    row_tokens: RowTokens,
    *,
    seconds: float,
    host_of: Callable[[str], str],
    waiting_for: str = "",
    warnings: Sequence[str] = (),
) -> JobView:
    """The job as `dispatch` knows it, with rows under way. A worker's death may take some back."""
    work, fleet = dispatch.work, dispatch.fleet
    members = list(fleet)
    under_way = sum(member.under_way for member in members)
    final = min(before.rows, work.rows_finished + work.rows_covered + under_way)
    failed = min(final, work.rows_failed + sum(m.report.rows_failed for m in members if m.assigned))
    prompt, completion = generated(dispatch)
    tokens = before.completion_tokens + completion
    rate = rates.recent or rates.mean
    left = eta(before.rows - final, final, tokens, rate, row_tokens)
    return JobView(
        rows=before.rows,
        rows_done=final - failed,
        rows_failed=failed,
        prompt_tokens=before.prompt_tokens + prompt,
        completion_tokens=tokens,
        shards=before.shards,
        shards_finished=work.shards_finished,
        tokens_per_second=rates.recent,
        mean_tokens_per_second=rates.mean,
        eta_seconds=left.seconds,
        eta_at_most=left.at_most,
        seconds=seconds,
        deaths=dispatch.failures.deaths,
        waiting_for=waiting_for,
        latest_completion=max((m.report.latest_completion for m in members), key=len, default=""),
        warnings=tuple(warnings),
        workers=tuple(_worker(member, host_of(member.name)) for member in members),
    )


def waiting_view(before: PublishedTotals, *, seconds: float, waiting_for: str) -> JobView:
    """The job while the cluster has no room for a worker yet."""
    return JobView(**asdict(before), seconds=seconds, waiting_for=waiting_for)


def generated(dispatch: Dispatch) -> tuple[int, int]:
    """(prompt tokens, completion tokens) of this run, by all its workers, also dead ones."""
    fleet = dispatch.fleet
    prompt = fleet.prompt_tokens + sum(member.report.prompt_tokens for member in fleet)
    completion = fleet.completion_tokens + sum(m.report.completion_tokens for m in fleet)
    return prompt, completion


def _worker(member: Member, host: str) -> WorkerView:
    report = member.report
    return WorkerView(
        name=member.name,
        host=host,
        state=member.phase.value,
        slots=report.slots,
        occupied=report.occupied,
        waiting=report.waiting,
        prompt_tokens=report.prompt_tokens,
        completion_tokens=report.completion_tokens,
        rows_done=report.rows_done,
        rows_failed=report.rows_failed,
        details=report.details,
    )
