"""A job's output folder: the small files in it, and the whole of it opened for a command.

Drivers and commands communicate by the files: heartbeat, stop request, `_SUCCESS`.
"""

import json
import logging
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

from rgpipeline.errors import OutputError
from rgpipeline.io.log import PartFooter, read_footer, read_footers
from rgpipeline.io.parts import part_names
from rgpipeline.plan import Plan
from rgpipeline.plan.plan_files import PLAN, WITHOUT_JOB, read_job, read_plan
from rgpipeline.spec import Job
from rgpipeline.storage.filesystems import StorageOptions
from rgpipeline.storage.reachable import check_reachable
from rgpipeline.storage.store import RetryingStore, Store, open_store

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


@dataclass(frozen=True)
class JobFolder:
    """An output folder with its job and plan, and what is read of it, each thing once.

    The parts are listed, and footers and heartbeat read, when first used. So everything that a
    command shows is of one moment; `reread` gives the folder as it is later.
    """

    store: RetryingStore
    job: Job
    plan: Plan
    options: StorageOptions | None = None

    @classmethod
    def open(cls, url: str, options: StorageOptions | None = None) -> "JobFolder":
        """Opens the folder at `url`.

        Raises OutputError when it is no job's output, StoreError within seconds when the store
        doesn't answer.
        """
        check_reachable([url], options)
        store = open_store(url, options)
        job, plan = read_job(store), read_plan(store)
        if job is None or plan is None:
            if part_names(store):
                raise OutputError(f"{store.url()}: {WITHOUT_JOB}")
            raise OutputError(f"{store.url()}: not the output of a job (there is no {PLAN})")
        return cls(store, job, plan, options)

    def reread(self) -> "JobFolder":
        """The same folder without what was read of its parts and heartbeat."""
        return JobFolder(self.store, self.job, self.plan, self.options)

    @cached_property
    def part_names(self) -> list[str]:
        """The names of all parts, by shard and part."""
        return part_names(self.store)

    @cached_property
    def footers(self) -> dict[str, PartFooter]:
        """The footers of all parts, by name, in order; without parts that were removed meanwhile.

        Raises OutputError for a part that is damaged or another job's.
        """
        return read_footers(self.store, self.part_names, self.plan.fingerprint)

    def footer(self, name: str) -> PartFooter:
        """One part's footer, read alone unless `footers` has it; raises as `read_footer`."""
        known: dict[str, PartFooter] = self.__dict__.get("footers", {})
        return known.get(name) or read_footer(self.store, name, self.plan.fingerprint)

    @cached_property
    def heartbeat(self) -> Heartbeat | None:
        """The driver's latest heartbeat, see `read_heartbeat`."""
        return read_heartbeat(self.store)

    @cached_property
    def marked_finished(self) -> bool:
        """Whether `_SUCCESS` is there."""
        return self.store.exists(SUCCESS)
