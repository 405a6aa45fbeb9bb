"""The published parts: as a pyarrow dataset, and one by one in the log's order."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow.fs import FSSpecHandler, LocalFileSystem, PyFileSystem

from rgpipeline.errors import OutputError, StoreError
from rgpipeline.io.committed_rows import CommittedRows, Entry
from rgpipeline.io.parts import part_names, read_footer, read_footers, unusable
from rgpipeline.plan.job_folder import WITHOUT_JOB, read_job, read_plan
from rgpipeline.plan.plan_record import Plan
from rgpipeline.spec import Job
from rgpipeline.storage.filesystems import StorageOptions, open_filesystem, protocol_of
from rgpipeline.storage.reachable import check_reachable
from rgpipeline.storage.store import RetryingStore, Store, open_store
from rgpipeline.tasks import added_columns


def open_output(url: str, storage_options: StorageOptions | None = None) -> ds.Dataset:
    """What a job has published so far, as it is at this moment; with no parts, no rows.

    Columns: the kept input columns, then those that the job adds. Rows
    stand in the order of their parts. Raises OutputError when `url` is no job's output, or one
    of its parts is damaged or foreign: told by their footers, which are read here.
    """
    store, job, plan = open_job(url, storage_options)
    names = list(read_footers(store, part_names(store), plan.fingerprint))
    schema = plan.part_schema(added_columns(job))
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


T = TypeVar("T")
_UNREADABLE = (pa.ArrowException, OSError)


class PublishedRow(NamedTuple):
    """One row of a part that no earlier part holds."""

    entry: Entry
    whole: bool  # its sample is complete with it
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PublishedPart:
    """One part; its data is read when it is asked for. Raises OutputError when it is damaged."""

    shard: int
    entries: tuple[Entry, ...]  # of its rows, in order
    fresh: tuple[bool, ...]  # the row is in no earlier part
    whole: tuple[bool, ...]  # the row's sample is complete with it
    name: str
    store: Store
    fragment: Any  # pyarrow's ParquetFileFragment

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[PublishedRow]:
        """The fresh rows, with these columns (default: all)."""
        index = 0
        batches = self.fragment.to_batches(columns=columns, batch_size=256)
        while (batch := self._read(lambda: next(batches, None))) is not None:
            for values in batch.to_pylist():
                if self.fresh[index]:
                    yield PublishedRow(self.entries[index], self.whole[index], values)
                index += 1

    def column(self, name: str) -> list[Any]:
        """One column, of all rows."""
        table = self._read(lambda: self.fragment.to_table(columns=[name]))
        return list(table.column(0).to_pylist())

    def _read(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except _UNREADABLE as error:
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> Exception:
        """The store failed, or the part is damaged: then it can't be read from memory either."""
        data = self.store.read(self.name)
        told = " ".join(str(error).split())[:200]
        try:
            pq.read_table(pa.BufferReader(data))
        except _UNREADABLE:
            return OutputError(unusable(self.store.url(self.name), f"damaged: {told}"))
        return StoreError(f"reading {self.store.url(self.name)} failed ({told}); try again")


def published_parts(
    url: str, storage_options: StorageOptions | None = None
) -> Iterator[PublishedPart]:
    """All parts of the output at `url`, by shard and number, as they are at this moment.

    Raises OutputError when `url` is no job's output, and for a part that is damaged or foreign.
    """
    store, job, plan = open_job(url, storage_options)
    names = part_names(store)
    schema = plan.part_schema(added_columns(job))
    fragments = dataset_of(store, names, schema, storage_options).get_fragments()
    shard, committed = -1, CommittedRows()
    for name, fragment in zip(names, fragments, strict=False):  # none, if there is no part
        footer = read_footer(store, name, plan.fingerprint)
        if footer.shard != shard:
            shard, committed = footer.shard, CommittedRows()
        fresh, whole = [], []
        for entry in footer.entries:
            fresh.append(committed.add_one(entry))
            whole.append(committed.final(entry.row, entry.sample))
        yield PublishedPart(
            shard, footer.entries, tuple(fresh), tuple(whole), name, store, fragment
        )
