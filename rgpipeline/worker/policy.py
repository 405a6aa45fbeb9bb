"""The numbers a worker goes by."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerPolicy:
    """When things are published and saved, and how much may wait. Times in seconds."""

    part_bytes: int = 32 << 20  # rows gathered for one part, about
    part_s: float = 30.0  # a finished row waits no longer for others
    save_s: float = 1.0  # nor does a state to be saved: a death costs what came since
    refresh_s: float = 20.0  # between looks at what others have published of a held shard
    backlog_bytes: int = 256 << 20  # not yet published; beyond it the engine waits for the store
    ahead_bytes: int = 64 << 20  # prompts made ready before the engine wants them
    open_bytes: int = 256 << 20  # prompts and snapshots of rows in slots or waiting for one
    window: int = 8  # rows waiting for a slot at most, in rounds of the slots: longest go first
    snapshot_s: float = 600.0  # of work on one sequence that may be lost by a sudden death
    snapshot_tokens: int = 1024  # fewer are sooner generated again than saved and loaded
    snapshots_at_once: int = 4  # downloaded and not saved yet
