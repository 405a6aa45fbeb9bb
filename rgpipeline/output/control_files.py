"""What a driver and the commands tell each other in files: heartbeat, stop request, success."""

import json
import logging
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from rgpipeline.storage.store import Store

SUCCESS = "_SUCCESS"
SUMMARY = "_rgp/summary.json"
STOP = "_rgp/stop"
FRESH_S = 60.0  # a driver silent for longer is taken for dead

_log = logging.getLogger(__name__)

Running = Literal["running", "interrupted", "failed", "finished"]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What the driver last said of itself: every few seconds, and once more at its end."""

    state: Running
    updated: float  # seconds since the epoch
    workers: int = 0
    tokens_per_second: float = 0.0
    eta_seconds: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)  # for `report`


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


def driver_at_work(store: Store, now: float) -> bool:
    """Whether a driver has said within the last minute that it runs this job."""
    said = read_heartbeat(store)
    return said is not None and said.state == "running" and now - said.updated <= FRESH_S


def request_stop(store: Store) -> None:
    """Has every driver that is at this job now publish what is finished and leave.

    A driver that begins later takes no notice.
    """
    request = {"asked": time.time(), "id": uuid.uuid4().hex}
    store.replace(STOP, json.dumps(request).encode())


def read_stop(store: Store) -> bytes | None:
    """The latest request, unlike any other; None when there is none."""
    try:
        return store.read(STOP)
    except FileNotFoundError:
        return None


def write_success(store: Store) -> None:
    """Marks the job as finished: every row is final. Nothing is written where that stands."""
    if not store.exists(SUCCESS):
        store.create(SUCCESS, b"")


def withdraw_success(store: Store) -> None:
    """Removes the mark of a finished job, which has rows to do again."""
    if store.exists(SUCCESS):
        store.delete(SUCCESS)
