"""Which snapshots of the Hub's cache a job began with, recorded in the output folder.

`hf download` moves a cache's `main` to another snapshot. A job that is resumed goes on with the
weights, the adapter and the tokenizer that it began with, and so do workers on other machines.
"""

import json

from rgpipeline.errors import OutputError
from rgpipeline.model.weights.model_source import ModelSource, source_of
from rgpipeline.spec import Job
from rgpipeline.storage.store import Store

SNAPSHOTS = "_rgp/snapshots.json"


def recorded_source(job: Job, store: Store) -> ModelSource:
    """A job's model, of the snapshots that are recorded; the first worker records its own.

    Raises as `resolve_source`, and WeightsError if the cache has lost a recorded snapshot.
    """
    source = source_of(job)
    if not source.snapshots:
        return source
    store.create(SNAPSHOTS, json.dumps(source.snapshots).encode())
    try:
        recorded = dict(json.loads(store.read(SNAPSHOTS)))
    except (ValueError, TypeError) as error:
        raise OutputError(
            f"{store.url(SNAPSHOTS)}: not understood ({error}); restore it from a copy"
        ) from error
    return source if recorded == source.snapshots else source_of(job, recorded)
