"""How a job stands, for people: the display, the heartbeat, the event log."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from rgpipeline.dispatch.fleet import Member
from rgpipeline.dispatch.state_machine import Dispatch
from rgpipeline.dispatch.throughput import RowTokens, TokenRates, eta
from rgpipeline.wording import amount


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
class JobView:
    """The whole job; rates in tokens generated a second."""

    rows: int
    shards: int
    rows_done: int = 0  # final, without an error
    rows_failed: int = 0
    shards_finished: int = 0
    prompt_tokens: int = 0  # of rows done, in this run and before
    completion_tokens: int = 0
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


@dataclass(frozen=True, slots=True)
class PublishedTotals:
    """What a job has published at one moment, such as the begin of a run."""

    rows: int = 0  # of the whole job
    shards: int = 0
    rows_done: int = 0
    rows_failed: int = 0
    shards_finished: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


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
