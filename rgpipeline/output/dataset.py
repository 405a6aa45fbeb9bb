"""The committed rows as a pyarrow dataset."""

import pyarrow.dataset as ds
from pyarrow.fs import FSSpecHandler, LocalFileSystem, PyFileSystem

from rgpipeline.errors import OutputError
from rgpipeline.io.columns import AddedColumns
from rgpipeline.io.contact import require_answers
from rgpipeline.io.options import StorageOptions, open_filesystem, protocol_of
from rgpipeline.io.parts import part_names
from rgpipeline.io.store import RetryingStore, open_store
from rgpipeline.plan.folder import read_job, read_plan
from rgpipeline.plan.record import Plan
from rgpipeline.spec import Job


def open_output(url: str, storage_options: StorageOptions | None = None) -> ds.Dataset:
    """What a job has published so far, as it is at this moment; with no parts, no rows.

    Columns: the kept input columns, then those that the job adds. Rows
    stand in the order of their parts. Raises OutputError when `url` is no job's output.
    """
    store, job, plan = open_job(url, storage_options)
    schema = plan.part_schema(AddedColumns.of(job))
    names = part_names(store)
    if not names:
        return ds.dataset(schema.empty_table())
    if protocol_of(url) == "file":
        filesystem, folder = LocalFileSystem(), store.url()
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
    require_answers([url], storage_options)
    store = open_store(url, storage_options)
    job, plan = read_job(store), read_plan(store)
    if job is None or plan is None:
        raise OutputError(f"{store.url()}: not the output of a job (there is no _rgp/plan.json)")
    return store, job, plan
