"""The event log of a job: its records, which drivers write and the report reads.

Layer 0. Files below `_rgp/events/` hold a JSON object a line; each run has files of its own.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import ClassVar, Literal

EVENTS_FOLDER = "_rgp/events/"
_FILE_NAME = re.compile(rf"{EVENTS_FOLDER}(\d+)-(\d+)\.jsonl")

WorkerChange = Literal["starting", "up", "ready", "drained", "left", "killed", "died"]


@dataclass(frozen=True, slots=True)
class RunBegan:
    """A driver has found room for workers and begins."""

    tags: ClassVar[dict[str, str]] = {"kind": "run", "what": "began"}

    t: float  # seconds since the epoch
    versions: Mapping[str, str] = field(default_factory=dict)  # of rgpipeline, ray, python
    accelerator: str = ""  # what each worker takes of the cluster, in words
    address: str = ""  # of the Ray cluster, or `local`
    chips: int = 0  # accelerators of each worker; 0 on CPUs, and in logs of older versions


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A driver ends."""

    tags: ClassVar[dict[str, str]] = {"kind": "run", "what": "ended"}

    t: float
    outcome: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class WorkerChanged:
    """A worker is in another phase of its life."""

    tags: ClassVar[dict[str, str]] = {"kind": "worker"}

    t: float
    what: WorkerChange | Literal[""] = ""
    worker: str = ""
    host: str = ""  # empty as long as it is not known
    reason: str = ""


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """One worker's counters, noted every few seconds; they grow from its start."""

    tags: ClassVar[dict[str, str]] = {"kind": "rate"}

    t: float
    worker: str = ""
    host: str = ""
    state: str = ""  # in words
    slots: int = 0
    occupied: int = 0
    waiting: int = 0  # rows that have no slot yet
    prompt_tokens: int = 0
    completion_tokens: int = 0
    rows_done: int = 0
    rows_failed: int = 0
    details: Mapping[str, float] = field(default_factory=dict)  # prefill_s, position_7_tokens…


Event = RunBegan | RunEnded | WorkerChanged | WorkerFigures
_RECORDS: tuple[type[Event], ...] = (RunBegan, RunEnded, WorkerChanged, WorkerFigures)


def event_line(event: Event) -> str:
    """The event's line of the log, without its end."""
    return json.dumps({**event.tags, **asdict(event)})


def parse_event(line: bytes) -> Event | None:
    """The event of a line; None when it can't be read, or its kind is not known here.

    A field that is missing or of another type has its default: logs of older versions are read.
    """
    try:
        values = json.loads(line)
    except ValueError:
        return None
    if not isinstance(values, dict) or not isinstance(values.get("t"), int | float):
        return None
    record = next((one for one in _RECORDS if one.tags.items() <= values.items()), None)
    if record is None:
        return None
    defaults = record(values["t"])
    known = {
        one.name: values[one.name]
        for one in fields(record)
        if type(values.get(one.name)) is type(getattr(defaults, one.name))
    }
    return replace(defaults, **known)


def event_file_name(run: int, sequence: int) -> str:
    """A file of the log. `run`: milliseconds since the epoch at which the driver began."""
    return f"{EVENTS_FOLDER}{run}-{sequence:04d}.jsonl"


def parse_event_file_name(name: str) -> tuple[int, int] | None:
    """(run, sequence) of a file's name; None for any other name."""
    match = _FILE_NAME.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None
