"""How a job stands, told from its output folder alone."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from rgpipeline.errors import OutputError
from rgpipeline.io.options import StorageOptions
from rgpipeline.io.store import Store
from rgpipeline.output.dataset import open_job
from rgpipeline.output.progress import read_progress

SUCCESS = "_SUCCESS"
SUMMARY = "_rgp/summary.json"
_FRESH_S = 60.0  # a driver silent for longer is taken for dead

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
        }


def write_heartbeat(store: Store, heartbeat: Heartbeat) -> None:
    """Replaces what the driver last said of itself."""
    store.replace(SUMMARY, json.dumps(asdict(heartbeat)).encode())


def read_heartbeat(store: Store) -> Heartbeat | None:
    """What the driver last said of itself; None before any ran."""
    try:
        return Heartbeat(**json.loads(store.read(SUMMARY)))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise OutputError(f"{store.url(SUMMARY)}: not understood ({error})") from error


def write_success(store: Store) -> None:
    """Marks the job as finished: every row is final."""
    store.create(SUCCESS, b"")


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
    state = _state(said, store.exists(SUCCESS), now())
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
    )


def _state(said: Heartbeat | None, success: bool, now: float) -> State:
    if success:
        return "finished"
    if said is None:
        return "planned"
    if said.state == "finished":  # said so, and died before it could mark it
        return "interrupted"
    if said.state == "running" and now - said.updated > _FRESH_S:
        return "interrupted"
    return said.state
