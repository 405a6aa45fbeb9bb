"""Makes a plan: scans every input file once and cuts the rows into shards."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice

import pyarrow as pa

from rgpipeline.errors import InputError, JobError
from rgpipeline.input_formats import FORMATS
from rgpipeline.io.input_files import FoundFile
from rgpipeline.io.parts import is_writable, part_name
from rgpipeline.io.paths import Inputs, expand_inputs, takes_in
from rgpipeline.io.readers import Reader, Scan, reader_for
from rgpipeline.io.shard_rows import partition_fields
from rgpipeline.plan.column_checks import (
    column_faults,
    missing_columns,
    name_faults,
    with_found_id,
)
from rgpipeline.plan.input_columns import InputColumns
from rgpipeline.plan.plan_record import Plan, identity, used_columns
from rgpipeline.records import InputFile, Shard, Span
from rgpipeline.spec import Columns, Job, WorkersSpec
from rgpipeline.storage.filesystems import resolve_options
from rgpipeline.storage.retries import Retry
from rgpipeline.tasks.unused_options import unused_warnings

# Ten shards for each worker keep all workers busy to the end. With `workers.count: auto`, enough
# for a hundred workers. Not more: `status` reads the footers of every shard's parts.
_SHARDS_PER_WORKER, _MIN_SHARDS, _MIN_SHARDS_AUTO = 10, 256, 1024
_MIN_SEQUENCES, _MAX_SEQUENCES = 16, 8192  # in a shard
_MAX_SHARD_BYTES = 64 << 20  # of input, which a worker keeps in memory
_THREADS = 32  # they wait for a remote store
_MESSAGES = 5


def make_plan(job: Job, retry: Retry | None = None) -> Plan:
    """Finds the job's input files, scans each, and cuts their rows into shards.

    Finds everything that can be wrong with inputs and columns: raises InputError or JobError naming
    file, column or field. Reads only the footers of Parquet files, but JSON Lines and CSV whole.
    """
    retry = retry or Retry()
    inputs = find_inputs(job, retry)
    reader = reader_for(inputs.format, job.storage_options)
    scans = _scan(inputs, job, reader, retry)
    files = tuple(map(_input_file, inputs.files, scans))  # `input.limit` leaves some unscanned
    if not any(file.rows for file in files):
        raise InputError(f"{', '.join(job.input.path)}: there are no rows in the input")
    found = InputColumns(scans, files, reader)
    partitions = _partitions(files, found)
    format = FORMATS[inputs.format]
    own = Columns(**format.columns) if format.columns else None
    columns = own or with_found_id(job, found, partitions)
    names = [*found.names, *(field.name for field in partitions)]
    kept = kept_columns(job, columns, format.kept or names)
    choices = columns.completion is not None and found.holds_lists(columns.completion)
    faults = [*column_faults(job, columns, found, partitions), *name_faults(job, kept, choices)]
    # Some files may lack a column that only happens to be called `id`, not one that the job names.
    needed = own or job.input.columns
    schemas = [scan.schema for scan in scans]
    faults += missing_columns(job, needed, files, schemas, [field.name for field in partitions])
    if faults:
        raise InputError("\n".join(faults))
    schema = _schema(kept, found, partitions)
    read = {*kept, *used_columns(columns, job.input.template)}
    return Plan(
        job=identity(job),
        format=inputs.format,
        files=files,
        shards=cut_shards([file.rows for file in files], _shard_rows(files, job)),
        schema=schema,
        kept=kept,
        columns=columns,
        partitions=tuple(field.name for field in partitions if field.name in read),
        choices=choices,
        warnings=(*inputs.warnings, *_empty_files(files), *unused_warnings(job)),
    )


def _partitions(files: Sequence[InputFile], columns: InputColumns) -> list[pa.Field]:
    """The columns that come from folders' names; a file's own column of that name comes first."""
    own = set(columns.names)
    fields = partition_fields(file.partition_path for file in files)
    return [field for field in fields if field.name not in own]


def _schema(kept: Sequence[str], found: InputColumns, partitions: Sequence[pa.Field]) -> pa.Schema:
    """The kept columns. Raises InputError for one that has no type, or none that can be written."""
    by_folder = {field.name: field for field in partitions}
    schema = pa.schema([by_folder.get(name) or found.kept_field(name) for name in kept])
    for column in schema:
        if not is_writable(column):
            raise InputError(
                f"column {column.name!r} holds {column.type}, which Parquet lacks. The column is "
                f"kept; leave it out by output.keep (a list of the columns to keep)"
            )
    return schema


def _input_file(file: FoundFile, scan: Scan) -> InputFile:
    found = (file.path, file.name, file.size, file.version)
    return InputFile(*found, scan.rows, scan.marks, file.below)


def _empty_files(files: Sequence[InputFile]) -> list[str]:
    empty = [f"{file.path} has no rows" for file in files if not file.rows]
    more = len(empty) - _MESSAGES
    return empty[:_MESSAGES] + ([f"… and {more} more files have no rows"] if more > 0 else [])


def find_inputs(job: Job, retry: Retry | None = None) -> Inputs:
    """The files that a job's `input.path` names now.

    Raises JobError when the output folder would be among them, InputError as `expand_inputs`.
    """
    options = resolve_options(job.storage_options)
    part = f"{job.output.path.rstrip('/')}/{part_name(0, 0)}"
    for path in job.input.path:
        if takes_in(path, part, job.input.format, options):
            raise JobError(
                f"output.path: {job.output.path} is where input.path {path} looks for prompts, "
                f"so the output would be read as input; choose another folder"
            )
    named = ", ".join(job.input.path)
    return (retry or Retry()).call(
        f"listing {named}", lambda: expand_inputs(job.input.path, job.input.format, options)
    )


def cut_shards(rows: Sequence[int], size: int) -> tuple[Shard, ...]:
    """Shards of `size` rows (the last may have fewer); `rows`: of each file.

    A shard may span files, so ten thousand tiny files make few shards.
    """
    shards: list[Shard] = []
    spans: list[Span] = []
    left = size
    for file, count in enumerate(rows):
        start = 0
        while start < count:
            stop = min(count, start + left)
            spans.append(Span(file, start, stop))
            left -= stop - start
            start = stop
            if not left:
                shards.append(Shard(len(shards), tuple(spans)))
                spans, left = [], size
    return tuple(shards) + ((Shard(len(shards), tuple(spans)),) if spans else ())


def rows_of_a_shard(rows: int, workers: WorkersSpec, samples: int = 1) -> int:
    """How many rows a shard gets, so that all workers stay busy to the end.

    `samples`: of each row, by the job; a row with many samples is as much work as many rows. A
    row's own `n`, in its `sampling` column, doesn't count: Parquet rows aren't read here, and one
    row with a large `n` would cut the job into far too many shards.
    """
    if workers.count == "auto":
        shards = max(_MIN_SHARDS_AUTO, _SHARDS_PER_WORKER * workers.min)
    else:
        shards = max(_MIN_SHARDS, _SHARDS_PER_WORKER * workers.count)
    return min(
        max(math.ceil(rows / shards), _MIN_SEQUENCES // samples, 1),
        max(_MAX_SEQUENCES // samples, 1),
    )


def _shard_rows(files: Sequence[InputFile], job: Job) -> int:
    rows = sum(file.rows for file in files)
    mean_bytes = sum(file.size for file in files) / rows
    even = rows_of_a_shard(rows, job.workers, job.sampling.n)
    return max(1, min(even, int(_MAX_SHARD_BYTES / max(mean_bytes, 1))))


def _scan(inputs: Inputs, job: Job, reader: Reader, retry: Retry) -> list[Scan]:
    """Scans the files, up to the one in which `input.limit` is reached."""
    left = job.input.limit

    def scan(file: FoundFile) -> Scan | InputError:
        try:
            return retry.call(f"reading {file.path}", lambda: reader.scan(file, left))
        except InputError as error:
            return error

    scans: list[Scan] = []
    bad: list[InputError] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for batch in _batches(inputs.files, 2 * _THREADS):
            for found in pool.map(scan, batch):
                if left == 0:
                    break
                if isinstance(found, InputError):
                    bad.append(found)
                    continue
                rows = found.rows if left is None else min(found.rows, left)
                left = None if left is None else left - rows
                scans.append(replace(found, rows=rows))
            if left == 0:
                break
    if bad:
        more = f"\n… and {len(bad) - _MESSAGES} more files" if len(bad) > _MESSAGES else ""
        raise InputError("\n".join(map(str, bad[:_MESSAGES])) + more)
    return scans


def _batches(files: Sequence[FoundFile], size: int) -> Iterator[list[FoundFile]]:
    rest = iter(files)
    while batch := list(islice(rest, size)):
        yield batch


def kept_columns(job: Job, columns: Columns, names: Sequence[str]) -> tuple[str, ...]:
    """The input columns to keep; not those that become our columns of the same name anyway."""
    names = names if job.output.keep == "all" else job.output.keep
    taken = {"id": columns.id, "messages": columns.messages if job.output.messages else None}
    prefix = job.output.prefix
    own = {name for ours, name in taken.items() if name and _same(name, prefix + ours)}
    return tuple(name for name in names if name not in own)


def _same(name: str, other: str) -> bool:
    return name.casefold() == other.casefold()
