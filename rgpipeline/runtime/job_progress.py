"""What a job has published: what is left when a run begins, and the summary when it ends."""

import logging
import time
from collections.abc import Sequence

from rgpipeline.dispatch.driver_messages import JobEnded
from rgpipeline.dispatch.work_queue import WorkQueue
from rgpipeline.errors import OutputError, StoreError
from rgpipeline.io.snapshots import Snapshots
from rgpipeline.output import JobFolder, ShardProgress, read_heartbeat, write_success
from rgpipeline.output.job_status import Outcome, Summary, published_totals
from rgpipeline.output.orphan_states import remove_orphan_states
from rgpipeline.plan import Plan
from rgpipeline.records import PublishedTotals, ShardDone
from rgpipeline.storage.store import Store
from rgpipeline.wording import count, counted

_log = logging.getLogger(__name__)

STOPPED = "stopped; what is finished is published, and the same job again goes on from here"
_NAMED = 5
_HEARTBEAT_FRESH_S = 30.0


def work_left(plan: Plan, progress: Sequence[ShardProgress]) -> WorkQueue:
    """The shards that are not finished, and how many rows of each are done."""
    finished = [
        ShardDone(shard.shard, shard.rows, shard.rows_failed)
        for shard in progress
        if shard.finished
    ]
    covered = {
        shard.shard: shard.rows_done + shard.rows_failed
        for shard in progress
        if not shard.finished and shard.parts
    }
    return WorkQueue(plan.shards, finished, covered)


def other_driver_warning(store: Store) -> list[str]:
    """A warning where another driver seems to be at work on this job."""
    said = read_heartbeat(store)
    ago = time.time() - said.updated if said is not None else 0.0
    if said is None or said.state != "running" or ago > _HEARTBEAT_FRESH_S:
        return []
    where = f"{said.details.get('host', '?')}, process {said.details.get('pid', '?')}"
    return [
        f"another driver ({where}) said {ago:.0f} s ago that it is at this job; if it still is, "
        f"both share the work and no row comes twice"
    ]


def verify_complete(end: JobEnded, progress: Sequence[ShardProgress], store: Store) -> JobEnded:
    """`end`, or a failure where the log lacks rows that workers have reported as finished."""
    missing = [shard.shard for shard in progress if not shard.finished]
    if end.outcome != "finished" or not missing:
        return end
    named = ", ".join(map(str, missing[:_NAMED])) + (" …" if len(missing) > _NAMED else "")
    return JobEnded(
        "failed",
        f"{store.url()}: shards {named} lack rows that workers have published; was something "
        f"removed from the output? Run the same job again",
    )


def mark_finished(folder: JobFolder) -> None:
    """Marks the output as finished, for every reader; removes snapshots, and states of no row.

    Readers of the rows need none of it, so only a warning is logged where the folder is read-only.
    """
    try:
        write_success(folder.store)
        Snapshots(folder.store).remove_everything()
        remove_orphan_states(folder)
    except (OutputError, StoreError) as error:
        _log.warning("all rows are done, and the folder could not be marked so: %s", error)


def summary_of(
    end: JobEnded,
    progress: Sequence[ShardProgress],
    output: str,
    seconds: float,
    *,
    tokens_per_second: float = 0.0,
    generated_tokens: int = 0,
    already_done: bool = False,
    warning: str = "",
) -> Summary:
    """What `run` returns. Rows and tokens are counted from `progress`."""
    totals = published_totals(progress)
    outcome, code = _outcome(end, totals.rows_failed)
    return Summary(
        outcome=outcome,
        exit_code=code,
        message=STOPPED if outcome == "interrupted" else _message(end, totals),
        rows=totals.rows,
        rows_done=totals.rows_done,
        rows_failed=totals.rows_failed,
        prompt_tokens=totals.prompt_tokens,
        completion_tokens=totals.completion_tokens,
        seconds=seconds,
        tokens_per_second=tokens_per_second,
        generated_tokens=generated_tokens,
        output=output,
        already_done=already_done,
        warning=warning,
    )


def _message(end: JobEnded, totals: PublishedTotals) -> str:
    """Why a job failed, and how much of it is published."""
    published = totals.rows_done + totals.rows_failed
    if end.outcome != "failed" or end.users_fault or not published:
        return end.message
    return f"{end.message}\n{count(published)} of {counted(totals.rows, 'row')} are published"


def _outcome(end: JobEnded, failed: int) -> tuple[Outcome, int]:
    match end.outcome:
        case "finished":
            return "finished", 3 if failed else 0
        case "stopped":
            return "interrupted", 130
        case _:
            return "failed", 2 if end.users_fault else 1
