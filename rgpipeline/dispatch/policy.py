"""The numbers the driver goes by."""

from dataclasses import dataclass

from rgpipeline.spec import FaultsSpec

_SILENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Policy:
    """What is put up with, and for how long. Times in seconds."""

    worker_timeout_s: float = 300.0  # with work, but neither engine nor log makes progress
    # Without a sign of a worker that waits for room. It may be stuck where nobody can tell; if it
    # does wait, another in its place waits as well.
    pending_timeout_s: float = 900.0
    start_timeout_s: float = 1800.0  # from process to open engine: big weights load slowly
    silence_s: float = _SILENCE_S  # without a word from a worker that has nothing to do
    drain_timeout_s: float = 120.0  # from being told to go to being gone
    max_restarts: int | None = None  # after crashes and hangs, in all; None has only the next two
    start_tries: int = 3  # failed starts in a row, with no worker at work
    # Deaths in a row with no row done in between, beside one for each worker wanted: before any
    # row was done, and later.
    first_deaths: int = 6
    fruitless_deaths: int = 10
    max_backoff_s: float = 60.0  # before the next start, after fruitless ones
    strikes: int = 2  # deaths before a shard is suspected, and a row alone found guilty
    copies: int = 2  # workers on one shard at the tail
    max_failed_rows: int | None = None

    @classmethod
    def of(cls, faults: FaultsSpec) -> "Policy":
        return cls(
            worker_timeout_s=faults.worker_timeout_s,
            silence_s=max(_SILENCE_S, faults.worker_timeout_s),
            max_restarts=faults.max_worker_restarts,
            max_failed_rows=faults.max_failed_rows,
        )
