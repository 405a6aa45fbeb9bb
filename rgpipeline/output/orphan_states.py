"""Removes stored states that no row names: their rows were lost to a death, or came from others."""

from rgpipeline.io.stored_states import StoredStates
from rgpipeline.output.job_folder import JobFolder
from rgpipeline.output.published_parts import published_parts


def remove_orphan_states(folder: JobFolder) -> int:
    """Removes them, and returns their number. The job must be finished: no more rows may come.

    Raises OutputError, StoreError.
    """
    job = folder.job
    if job.output.states is None:
        return 0
    column = f"{job.output.prefix}state"
    named = (url for part in published_parts(folder) for url in part.column(column) if url)
    return StoredStates(folder.store).remove_others(named)
