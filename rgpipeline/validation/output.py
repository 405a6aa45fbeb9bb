"""Whether the output folder can take the job."""

import os
from pathlib import Path

from rgpipeline.errors import OutputError
from rgpipeline.plan import Plan
from rgpipeline.plan.few_rows import few_rows_expected
from rgpipeline.plan.folder import check_folder, require_usable
from rgpipeline.spec import Job
from rgpipeline.storage.filesystems import protocol_of
from rgpipeline.storage.retries import Retry
from rgpipeline.storage.store import Store, open_store


def output_warnings(job: Job, retry: Retry) -> tuple[str, ...]:
    """What a run would warn of; raises the OutputError that it would end with.

    In a bucket an object is created and removed again, for only that shows whether it may be.
    Nothing is made on a disk.
    """
    store = open_store(job.output.path, job.storage_options, retry)
    warnings = check_folder(job, store)
    if protocol_of(job.output.path) == "file":
        _require_writable(store)
    else:
        require_usable(store)
    return warnings


def slot_warnings(job: Job, plan: Plan, retry: Retry) -> tuple[str, ...]:
    """One where the rows are fewer than the slots; these are recorded beside the output."""
    store = open_store(job.output.path, job.storage_options, retry)
    warning = few_rows_expected(job, plan.rows, store)
    return () if warning is None else (warning,)


def _require_writable(store: Store) -> None:
    folder = Path(store.url())
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(
            f"{store.url()}: nothing can be written into {folder}; change its permissions, or "
            f"name another output.path"
        )
