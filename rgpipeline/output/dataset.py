"""The committed rows as a pyarrow dataset."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow.fs import FSSpecHandler, LocalFileSystem, PyFileSystem

from rgpipeline.errors import OutputError
from rgpipeline.io.columns import AddedColumns
from rgpipeline.io.parts import part_names, read_footers
from rgpipeline.plan.folder import WITHOUT_JOB, read_job, read_plan
from rgpipeline.plan.record import Plan
from rgpipeline.spec import Job
from rgpipeline.storage.filesystems import StorageOptions, open_filesystem, protocol_of
from rgpipeline.storage.reachable import check_reachable
from rgpipeline.storage.store import RetryingStore, Store, open_store


def open_output(url: str, storage_options: StorageOptions | None = None) -> ds.Dataset:
    """What a job has published so far, as it is at this moment; with no parts, no rows.

    Columns: the kept input columns, then those that the job adds. Rows
    stand in the order of their parts. Raises OutputError when `url` is no job's output, or one
    of its parts is damaged or foreign: told by their footers, which are read here.
    """
    store, job, plan = open_job(url, storage_options)
    names = list(read_footers(store, part_names(store), plan.fingerprint))
    schema = plan.part_schema(AddedColumns.of(job))
    return dataset_of(store, names, schema, storage_options)


def dataset_of(
    store: Store, names: Sequence[str], schema: pa.Schema, storage_options: StorageOptions | None
) -> ds.Dataset:
    """Parts of an output folder as a dataset, in this order; without any, an empty table."""
    if not names:
        return ds.dataset(schema.empty_table())
    url = store.url()
    if protocol_of(url) == "file":
        filesystem, folder = LocalFileSystem(), url
    else:
        fs, folder = open_filesystem(url, storage_options)
        fs.invalidate_cache()
        filesystem = PyFileSystem(FSSpecHandler(fs))
    paths = [f"{folder.rstrip('/')}/{name}" for name in names]
    return ds.dataset(paths, schema=schema, format="parquet", filesystem=filesystem)


def open_job(
    url: str, storage_options: StorageOptions | None = None
) -> tuple[RetryingStore, Job, Plan]:
    """An output folder, with its job and plan.

    Raises OutputError when it has none, StoreError within seconds when the store doesn't answer.
    """
    check_reachable([url], storage_options)
    store = open_store(url, storage_options)
    job, plan = read_job(store), read_plan(store)
    if job is None or plan is None:
        if part_names(store):
            raise OutputError(f"{store.url()}: {WITHOUT_JOB}")
        raise OutputError(f"{store.url()}: not the output of a job (there is no _rgp/plan.json)")
    return store, job, plan
