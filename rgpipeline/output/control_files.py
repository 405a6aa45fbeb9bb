"""Small files by which drivers and commands communicate: heartbeat, stop request, `_SUCCESS`."""

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
_FRESH_S = 60.0  # a driver without a heartbeat for longer counts as dead

_log = logging.getLogger(__name__)

Running = Literal["running", "interrupted", "failed", "finished"]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The driver's latest report of itself: written every few seconds and at its end."""

    state: Running
    updated: float  # seconds since the epoch
    workers: int = 0
    tokens_per_second: float = 0.0
    eta_seconds: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)  # for `report`

    def runs_at(self, now: float) -> bool:
        """Whether its driver runs at the time `now`, as far as can be known."""
        return self.state == "running" and now - self.updated <= _FRESH_S


def write_heartbeat(store: Store, heartbeat: Heartbeat) -> None:
    """Replaces the driver's heartbeat."""
    store.replace(SUMMARY, json.dumps(asdict(heartbeat)).encode())


def read_heartbeat(store: Store) -> Heartbeat | None:
    """The driver's latest heartbeat; None before the first, or if the file is damaged.

    A damaged one is no error: no row depends on it, and the next run replaces it.
    """
    try:
        return Heartbeat(**json.loads(store.read(SUMMARY)))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        _log.info("%s: not understood (%s)", store.url(SUMMARY), error)
        return None


def request_stop(store: Store) -> None:
    """Asks every driver that runs this job now to publish what is finished and end.

    A driver that starts later ignores the request.
    """
    request = {"asked": time.time(), "id": uuid.uuid4().hex}
    store.replace(STOP, json.dumps(request).encode())


def read_stop(store: Store) -> bytes | None:
    """The latest request to stop, with an id of its own; None without any."""
    try:
        return store.read(STOP)
    except FileNotFoundError:
        return None


def write_success(store: Store) -> None:
    """Marks the job as finished (every row is final), unless it is marked already."""
    if not store.exists(SUCCESS):
        store.create(SUCCESS, b"")


def withdraw_success(store: Store) -> None:
    """Removes the mark of a finished job, before rows are done again."""
    if store.exists(SUCCESS):
        store.delete(SUCCESS)
