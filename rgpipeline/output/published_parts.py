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
from rgpipeline.io.log import unusable
from rgpipeline.output.job_folder import JobFolder
from rgpipeline.storage.filesystems import StorageOptions, open_filesystem, protocol_of
from rgpipeline.storage.store import Store
from rgpipeline.tasks import added_columns

T = TypeVar("T")
_UNREADABLE = (pa.ArrowException, OSError)


class PublishedRow(NamedTuple):
    """One row of a part; no earlier part has it."""

    entry: Entry
    whole: bool  # whether it completes its sample
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PublishedPart:
    """One part, its data read on demand. Reading raises OutputError when it is damaged."""

    shard: int
    entries: tuple[Entry, ...]  # of its rows, in order
    fresh: tuple[bool, ...]  # whether the row is in no earlier part
    whole: tuple[bool, ...]  # whether the row completes its sample
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
        """The error to raise: the part is damaged if reading it from memory fails, too."""
        data = self.store.read(self.name)
        reason = " ".join(str(error).split())[:200]
        try:
            pq.read_table(pa.BufferReader(data))
        except _UNREADABLE:
            return OutputError(unusable(self.store.url(self.name), f"damaged: {reason}"))
        return StoreError(f"reading {self.store.url(self.name)} failed ({reason}); try again")


def open_output(url: str, storage_options: StorageOptions | None = None) -> ds.Dataset:
    """What a job has published until now, as a dataset.

    Columns: the kept input columns, then those that the job adds. Rows are in the order of their
    parts. All footers are read here. Raises OutputError when `url` is no job's output, or one of
    its parts is damaged or another job's.
    """
    folder = JobFolder.open(url, storage_options)
    return _dataset(folder, list(folder.footers))


def published_parts(folder: JobFolder) -> Iterator[PublishedPart]:
    """All parts of an output, by shard and number; of a row published twice, one copy is fresh.

    Raises OutputError for a part that is damaged or another job's.
    """
    fragments = _dataset(folder, folder.part_names).get_fragments()
    shard, committed = -1, CommittedRows()
    for name, fragment in zip(folder.part_names, fragments, strict=False):  # none without parts
        footer = folder.footer(name)
        if footer.shard != shard:
            shard, committed = footer.shard, CommittedRows()
        fresh, whole = [], []
        for entry in footer.entries:
            fresh.append(committed.add_one(entry))
            whole.append(committed.final(entry.row, entry.sample))
        yield PublishedPart(
            shard, footer.entries, tuple(fresh), tuple(whole), name, folder.store, fragment
        )


def _dataset(folder: JobFolder, names: Sequence[str]) -> ds.Dataset:
    """Parts as a dataset, in this order; without any, an empty table."""
    added = added_columns(folder.job, folder.plan.choices)
    schema = folder.plan.part_schema(added)
    if not names:
        return ds.dataset(schema.empty_table())
    url = folder.store.url()
    if protocol_of(url) == "file":
        filesystem, root = LocalFileSystem(), url
    else:
        fs, root = open_filesystem(url, folder.options)
        fs.invalidate_cache()
        filesystem = PyFileSystem(FSSpecHandler(fs))
    paths = [f"{root.rstrip('/')}/{name}" for name in names]
    parts = ds.dataset(paths, schema=schema, format="parquet", filesystem=filesystem)
    sized = added.sized(part.physical_schema for part in parts.get_fragments())
    if sized == added:
        return parts
    schema = folder.plan.part_schema(sized)
    return ds.dataset(paths, schema=schema, format="parquet", filesystem=filesystem)
