"""How a job stands, told from its output folder alone."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from rgpipeline.output.dataset import open_job
from rgpipeline.output.progress import ShardProgress, read_progress
from rgpipeline.storage.filesystems import StorageOptions
from rgpipeline.storage.store import Store
from rgpipeline.wording import counted

SUCCESS = "_SUCCESS"
SUMMARY = "_rgp/summary.json"
_NAMED = 5  # parts that a warning names
_FRESH_S = 60.0  # a driver silent for longer is taken for dead

_log = logging.getLogger(__name__)

Running = Literal["running", "interrupted", "failed", "finished"]
State = Literal["planned", "running", "interrupted", "failed", "finished"]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What the driver last said of itself: every few seconds, and once more at its end."""

    state: Running
    updated: float  # seconds since the epoch
    workers: int = 0
    tokens_per_second: float = 0.0
    eta_seconds: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)  # for `report`


@dataclass(frozen=True, slots=True)
class Status:
    """How a job stands. `to_json` is what `status --json` prints."""

    state: State
    rows: int
    rows_done: int  # finished without an error
    rows_failed: int
    prompt_tokens: int
    completion_tokens: int
    shards: int
    shards_finished: int
    workers: int
    tokens_per_second: float
    eta_seconds: float | None
    updated: float | None  # seconds since the epoch; None before any driver ran
    warnings: tuple[str, ...] = ()  # what is wrong with the folder, and what to do

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


def write_heartbeat(store: Store, heartbeat: Heartbeat) -> None:
    """Replaces what the driver last said of itself."""
    store.replace(SUMMARY, json.dumps(asdict(heartbeat)).encode())


def read_heartbeat(store: Store) -> Heartbeat | None:
    """What the driver last said of itself; None before any ran, or where it is damaged.

    No row depends on it, so a damaged one stops nobody; the next run writes it anew.
    """
    try:
        return Heartbeat(**json.loads(store.read(SUMMARY)))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        _log.info("%s: not understood (%s)", store.url(SUMMARY), error)
        return None


def write_success(store: Store) -> None:
    """Marks the job as finished: every row is final. Nothing is written where that stands."""
    if not store.exists(SUCCESS):
        store.create(SUCCESS, b"")


def withdraw_success(store: Store) -> None:
    """Removes the mark of a finished job, which has rows to do again."""
    if store.exists(SUCCESS):
        store.delete(SUCCESS)


def read_status(
    url: str,
    storage_options: StorageOptions | None = None,
    now: Callable[[], float] = time.time,
) -> Status:
    """How the job whose output is at `url` stands: rows and tokens as published.

    Raises OutputError when `url` is no job's output.
    """
    store, _, plan = open_job(url, storage_options)
    said = read_heartbeat(store)
    shards = read_progress(store, plan)
    marked = store.exists(SUCCESS)
    state = _state(said, shards, marked, now())
    running = said if said and state == "running" else None
    return Status(
        state=state,
        rows=plan.rows,
        rows_done=sum(shard.rows_done for shard in shards),
        rows_failed=sum(shard.rows_failed for shard in shards),
        prompt_tokens=sum(shard.prompt_tokens for shard in shards),
        completion_tokens=sum(shard.completion_tokens for shard in shards),
        shards=len(shards),
        shards_finished=sum(shard.finished for shard in shards),
        workers=running.workers if running else 0,
        tokens_per_second=said.tokens_per_second if said else 0.0,
        eta_seconds=running.eta_seconds if running else None,
        updated=said.updated if said else None,
        warnings=() if running else (*_damaged(store, said), *_warnings(shards, marked)),
    )


def driver_at_work(store: Store, now: float) -> bool:
    """Whether a driver has said within the last minute that it runs this job."""
    said = read_heartbeat(store)
    return said is not None and said.state == "running" and now - said.updated <= _FRESH_S


def _state(
    said: Heartbeat | None, shards: Sequence[ShardProgress], marked: bool, now: float
) -> State:
    if marked and all(shard.finished for shard in shards):
        return "finished"
    if said is None:
        begun = marked or any(shard.parts for shard in shards)
        return "interrupted" if begun else "planned"
    if said.state == "finished":  # it died before it could mark it, or rows were removed since
        return "interrupted"
    if said.state == "running" and now - said.updated > _FRESH_S:
        return "interrupted"
    return said.state


def _damaged(store: Store, said: Heartbeat | None) -> Iterator[str]:
    if said is None and store.exists(SUMMARY):
        yield f"{store.url(SUMMARY)} can't be read; no row depends on it, and a run writes it anew"


def _warnings(shards: Sequence[ShardProgress], marked: bool) -> Iterator[str]:
    """What a person must know of the parts, when no driver is at work."""
    open_shards = [shard for shard in shards if not shard.finished]
    absent = [name for shard in open_shards for name in shard.absent]
    if absent:
        yield (
            f"{counted(len(absent), 'part')} of unfinished shards not there ({_some(absent)}); "
            f"the same job, run again, does the rows that are missing"
        )
    elif marked and open_shards:
        lacking = sum(shard.rows - shard.rows_done - shard.rows_failed for shard in open_shards)
        yield (
            f"the job was finished, and lacks {counted(lacking, 'row')} now; the same job, run "
            f"again, does what is missing"
        )
    repeating = [name for shard in shards for name in shard.repeating]
    if repeating:
        yield (
            f"rows stand twice: {_some(repeating)} repeats rows of earlier parts; remove it and "
            f"run the same job again, which does the rows that only it had"
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (" …" if len(names) > _NAMED else "")
