"""A job's status, read from its output folder alone; and the summary that `run` returns."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from rgpipeline.io.committed_rows import CommittedRows
from rgpipeline.io.log import PartFooter
from rgpipeline.io.parts import part_name
from rgpipeline.output.job_folder import SUMMARY, Heartbeat, JobFolder
from rgpipeline.records import PublishedTotals, Shard
from rgpipeline.wording import counted

_NAMED = 5  # parts that a warning names

State = Literal["planned", "running", "interrupted", "failed", "finished"]
Outcome = Literal["finished", "interrupted", "failed"]


@dataclass(frozen=True, slots=True)
class ShardProgress:
    """What is published of one shard."""

    shard: int
    rows: int  # in all
    rows_done: int = 0  # finished without an error
    rows_failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    parts: int = 0
    absent: tuple[str, ...] = ()  # missing parts, of lower numbers than others
    repeating: tuple[str, ...] = ()  # parts with rows of earlier parts

    @property
    def finished(self) -> bool:
        """Whether all its rows are final."""
        return self.rows_done + self.rows_failed == self.rows


def read_progress(folder: JobFolder) -> list[ShardProgress]:
    """Every shard's progress, by its index.

    Raises OutputError for a part that is damaged or another job's.
    """
    logs: dict[int, dict[int, PartFooter]] = {shard.index: {} for shard in folder.plan.shards}
    for footer in folder.footers.values():
        logs[footer.shard][footer.part] = footer
    return [_progress(shard, logs[shard.index]) for shard in folder.plan.shards]


def _progress(shard: Shard, log: Mapping[int, PartFooter]) -> ShardProgress:
    """`log`: footers by part number, ascending."""
    committed, repeating = CommittedRows(), []
    for number, footer in log.items():
        repeated = [entry for entry in footer.entries if not committed.add_one(entry)]
        if repeated:
            repeating.append(part_name(shard.index, number))
    return ShardProgress(
        shard.index,
        shard.rows,
        rows_done=committed.rows_finished - committed.rows_failed,
        rows_failed=committed.rows_failed,
        prompt_tokens=sum(footer.prompt_tokens for footer in log.values()),
        completion_tokens=sum(footer.completion_tokens for footer in log.values()),
        parts=len(log),
        absent=tuple(part_name(shard.index, n) for n in range(max(log, default=0)) if n not in log),
        repeating=tuple(repeating),
    )


def published_totals(progress: Sequence[ShardProgress]) -> PublishedTotals:
    """Sums over all shards of the job."""
    return PublishedTotals(
        rows=sum(shard.rows for shard in progress),
        shards=len(progress),
        rows_done=sum(shard.rows_done for shard in progress),
        rows_failed=sum(shard.rows_failed for shard in progress),
        shards_finished=sum(shard.finished for shard in progress),
        prompt_tokens=sum(shard.prompt_tokens for shard in progress),
        completion_tokens=sum(shard.completion_tokens for shard in progress),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(PublishedTotals):
    """A job's status. `status --json` prints `to_json()`."""

    state: State
    workers: int
    tokens_per_second: float
    eta_seconds: float | None
    updated: float | None  # seconds since the epoch; None before any driver ran
    warnings: tuple[str, ...] = ()  # what is wrong in the folder, and what to do

    def to_json(self) -> dict[str, Any]:
        updated = None if self.updated is None else datetime.fromtimestamp(self.updated, UTC)
        return {
            "state": self.state,
            "rows": {"total": self.rows, "done": self.rows_done, "failed": self.rows_failed},
            "tokens": {"prompt": self.prompt_tokens, "completion": self.completion_tokens},
            "shards": {"total": self.shards, "finished": self.shards_finished},
            "workers": self.workers,
            "tokens_per_second": self.tokens_per_second,
            "eta_seconds": self.eta_seconds,
            "updated": updated and updated.isoformat(timespec="seconds"),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, slots=True)
class Summary:
    """What `run` returns. Rows and tokens are the whole job's, as published."""

    outcome: Outcome
    exit_code: int  # 0 all done, 1 failed, 2 the user's mistake, 3 failed rows, 130 interrupted
    message: str  # why, in one line or a few; empty when all is well
    rows: int
    rows_done: int  # without an error
    rows_failed: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float  # of this run
    tokens_per_second: float  # of this run, from its first token on
    generated_tokens: int  # by this run
    output: str  # url
    already_done: bool = False  # there was nothing to do
    warning: str = ""  # what to know of the rows, such as ids that several have


def read_status(folder: JobFolder, now: float | None = None) -> Status:
    """A job's status: rows and tokens as published. `now`: in seconds since the epoch."""
    heartbeat, marked = folder.heartbeat, folder.marked_finished
    shards = read_progress(folder)
    state = _state(heartbeat, shards, marked, time.time() if now is None else now)
    running = heartbeat if heartbeat and state == "running" else None
    warnings = () if running else (*_damaged(folder), *_warnings(shards, marked))
    return Status(
        state=state,
        **asdict(published_totals(shards)),
        workers=running.workers if running else 0,
        tokens_per_second=heartbeat.tokens_per_second if heartbeat else 0.0,
        eta_seconds=running.eta_seconds if running else None,
        updated=heartbeat.updated if heartbeat else None,
        warnings=warnings,
    )


def _state(
    heartbeat: Heartbeat | None, shards: Sequence[ShardProgress], marked: bool, now: float
) -> State:
    if marked and all(shard.finished for shard in shards):
        return "finished"
    if heartbeat is None:
        begun = marked or any(shard.parts for shard in shards)
        return "interrupted" if begun else "planned"
    if heartbeat.state == "finished":  # it died before it wrote _SUCCESS, or parts were removed
        return "interrupted"
    if heartbeat.state == "running" and not heartbeat.runs_at(now):
        return "interrupted"
    return heartbeat.state


def _damaged(folder: JobFolder) -> Iterator[str]:
    store = folder.store
    if folder.heartbeat is None and store.exists(SUMMARY):
        yield f"{store.url(SUMMARY)} can't be read; no row depends on it, and a run replaces it"


def _warnings(shards: Sequence[ShardProgress], marked: bool) -> Iterator[str]:
    """What is wrong with the parts; a running driver would mend it."""
    open_shards = [shard for shard in shards if not shard.finished]
    absent = [name for shard in open_shards for name in shard.absent]
    if absent:
        yield (
            f"{counted(len(absent), 'part')} of unfinished shards missing ({_some(absent)}); run "
            f"the same job again: it does the missing rows"
        )
    elif marked and open_shards:
        lacking = sum(shard.rows - shard.rows_done - shard.rows_failed for shard in open_shards)
        yield (
            f"the job was finished, but lacks {counted(lacking, 'row')} now; run the same job "
            f"again: it does the missing rows"
        )
    repeating = [name for shard in shards for name in shard.repeating]
    if repeating:
        yield (
            f"rows are published twice: {_some(repeating)} repeats rows of earlier parts; remove "
            f"it and run the same job again, which does the rows that only it had"
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (" …" if len(names) > _NAMED else "")
