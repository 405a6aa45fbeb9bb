"""The committed rows as a pyarrow dataset."""

import pyarrow.dataset as ds
from pyarrow.fs import FSSpecHandler, LocalFileSystem, PyFileSystem

from rgpipeline.errors import OutputError
from rgpipeline.io.columns import AddedColumns
from rgpipeline.io.options import StorageOptions, open_filesystem, protocol_of
from rgpipeline.io.parts import part_names
from rgpipeline.io.store import Store, open_store
from rgpipeline.plan.folder import read_job, read_plan
from rgpipeline.plan.record import Plan
from rgpipeline.spec import Job


def open_output(url: str, storage_options: StorageOptions | None = None) -> ds.Dataset:
    """What a job has published so far, as it is at this moment; with no parts, no rows.

    Columns: the kept input columns, then those that the job adds. Rows
    stand in the order of their parts. Raises OutputError when `url` is no job's output.
    """
    store = open_store(url, storage_options)
    job, plan = read_job_and_plan(store)
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


def read_job_and_plan(store: Store) -> tuple[Job, Plan]:
    """The job and plan of an output folder. Raises OutputError when it has none."""
    job, plan = read_job(store), read_plan(store)
    if job is None or plan is None:
        raise OutputError(f"{store.url()}: not the output of a job (there is no _rgp/plan.json)")
    return job, plan
