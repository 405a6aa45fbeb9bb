"""Fewer sequences than slots: what that costs, and what to set.

`auto` takes no notice of how many rows a job has, for a row's last bits depend on the number of
slots, and would depend on the other rows.
"""

from rgpipeline.engine.auto import ACCELERATOR_SLOTS, CPU_SLOTS
from rgpipeline.plan.settled import settled
from rgpipeline.spec import Job
from rgpipeline.storage.store import Store
from rgpipeline.wording import counted


def few_rows_warning(job: Job, rows: int, slots: int) -> str | None:
    """One line, where a worker's `slots` are more than the job's sequences; else None."""
    if job.task == "score" or slots <= _sequences(job, rows):  # texts to score are in no slot
        return None
    return _warning(job, rows, f"a worker has {slots:,}")


def few_rows_expected(job: Job, rows: int, store: Store) -> str | None:
    """As `few_rows_warning`, before a worker has said how many slots it has."""
    known = settled(store, job.engine, job.workers.mesh)
    slots = job.engine.slots if known is None else known.slots
    if slots != "auto":
        return few_rows_warning(job, rows, slots)
    if job.task == "score" or _sequences(job, rows) >= CPU_SLOTS:
        return None
    usual = f"{CPU_SLOTS} on a CPU, {ACCELERATOR_SLOTS} or more on an accelerator"
    return _warning(job, rows, f"auto gives a worker {usual}")


def _sequences(job: Job, rows: int) -> int:
    """Those that can be in slots at once."""
    return rows * job.sampling.n


def _warning(job: Job, rows: int, slots: str) -> str:
    sequences, data = _sequences(job, rows), job.workers.mesh.data
    parts = 1 if data == "auto" else data
    fitting = -(-sequences // parts) * parts
    return (
        f"few rows for the slots: the job has {counted(sequences, 'sequence')}, {slots}, and empty "
        f"slots cost as much time as full ones; engine.slots: {fitting} is faster (another number "
        f"of slots may round rows differently)"
    )
