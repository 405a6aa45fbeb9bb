"""Making a plan: every file looked into once, rows cut into shards."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice

import pyarrow as pa

from rgpipeline.errors import InputError, JobError
from rgpipeline.input_formats import FORMATS
from rgpipeline.io.input_files import FoundFile
from rgpipeline.io.parts import part_name
from rgpipeline.io.paths import Inputs, expand_inputs, takes_in
from rgpipeline.io.readers import Reader, Scan, reader_for
from rgpipeline.io.shard_rows import partition_fields
from rgpipeline.plan.column_checks import column_faults, missing_columns, name_faults, with_found_id
from rgpipeline.plan.input_columns import InputColumns
from rgpipeline.plan.plan_record import Plan, identity, used_columns
from rgpipeline.records import InputFile, Shard, Span
from rgpipeline.spec import Columns, Job, WorkersSpec
from rgpipeline.storage.filesystems import resolve_options
from rgpipeline.storage.retries import Retry

# Shards, about: ten for each worker keep all of them busy to the end. Where nobody says how many
# there will be, enough for a hundred; a status reads the footers of each shard's parts.
_PER_WORKER, _SHARDS, _UNTOLD = 10, 256, 1024
_FEWEST, _MOST = 16, 8192  # sequences in a shard
_MOST_BYTES = 64 << 20  # of input in one shard, which a worker holds in memory
_THREADS = 32  # footers are read from afar: waiting, not work
_MESSAGES = 5


def make_plan(job: Job, retry: Retry | None = None) -> Plan:
    """Finds the job's input files, looks into each, and cuts their rows into shards.

    Everything that can be wrong with inputs and columns is found here: raises InputError or
    JobError naming file, column or field. Reads Parquet footers, and JSON Lines whole.
    """
    retry = retry or Retry()
    inputs = find_inputs(job, retry)
    reader = reader_for(inputs.format, job.storage_options)
    scans = _scan(inputs, job, reader, retry)
    files = tuple(map(_input_file, inputs.files, scans))  # with a limit, not all are scanned
    if not any(file.rows for file in files):
        raise InputError(f"{', '.join(job.input.path)}: there are no rows in the input")
    found = InputColumns(scans, files, reader)
    partitions = _partitions(files, found)
    format = FORMATS[inputs.format]
    own = Columns(**format.columns) if format.columns else None
    columns = own or with_found_id(job, found, partitions)
    names = [*found.names, *(field.name for field in partitions)]
    kept = _kept(job, columns, format.kept or names)
    faults = [*column_faults(job, columns, found, partitions), *name_faults(job, kept)]
    # A column that was found to be the id may be missing; one that the job names may not.
    needed = own or job.input.columns
    schemas = [scan.schema for scan in scans]
    faults += missing_columns(job, needed, files, schemas, [field.name for field in partitions])
    if faults:
        raise InputError("\n".join(faults))
    by_folder = {field.name: field for field in partitions}
    read = {*kept, *used_columns(columns, job.input.template)}
    return Plan(
        job=identity(job),
        format=inputs.format,
        files=files,
        shards=cut_shards([file.rows for file in files], _shard_rows(files, job)),
        schema=pa.schema([by_folder.get(name) or found.kept_field(name) for name in kept]),
        kept=kept,
        columns=columns,
        partitions=tuple(field.name for field in partitions if field.name in read),
        warnings=(*inputs.warnings, *_empty_files(files)),
    )


def _partitions(files: Sequence[InputFile], columns: InputColumns) -> list[pa.Field]:
    """The columns that come from folders' names; a column that files have themselves is theirs."""
    own = set(columns.names)
    fields = partition_fields(file.partition_path for file in files)
    return [field for field in fields if field.name not in own]


def _input_file(file: FoundFile, scan: Scan) -> InputFile:
    found = (file.path, file.name, file.size, file.version)
    return InputFile(*found, scan.rows, scan.marks, file.below)


def _empty_files(files: Sequence[InputFile]) -> list[str]:
    empty = [f"{file.path} has no rows" for file in files if not file.rows]
    more = len(empty) - _MESSAGES
    return empty[:_MESSAGES] + ([f"… and {more} more files have no rows"] if more > 0 else [])


def find_inputs(job: Job, retry: Retry | None = None) -> Inputs:
    """The files that a job names now.

    Raises JobError when its own output would lie among them, InputError as `expand_inputs`.
    """
    options = resolve_options(job.storage_options)
    part = f"{job.output.path.rstrip('/')}/{part_name(0, 0)}"
    for path in job.input.path:
        if takes_in(path, part, job.input.format, options):
            raise JobError(
                f"output.path: {job.output.path} lies where input.path {path} looks for prompts, "
                f"which would take in the output; choose a folder apart"
            )
    named = ", ".join(job.input.path)
    return (retry or Retry()).call(
        f"listing {named}", lambda: expand_inputs(job.input.path, job.input.format, options)
    )


def cut_shards(rows: Sequence[int], size: int) -> tuple[Shard, ...]:
    """Shards of `size` rows (the last may have fewer) over files of `rows` rows each.

    A shard takes up where the one before ended, across as many files as it needs: ten thousand
    tiny files make few shards.
    """
    shards: list[Shard] = []
    spans: list[Span] = []
    room = size
    for file, count in enumerate(rows):
        start = 0
        while start < count:
            stop = min(count, start + room)
            spans.append(Span(file, start, stop))
            room -= stop - start
            start = stop
            if not room:
                shards.append(Shard(len(shards), tuple(spans)))
                spans, room = [], size
    return tuple(shards) + ((Shard(len(shards), tuple(spans)),) if spans else ())


def rows_of_a_shard(rows: int, workers: WorkersSpec, samples: int = 1) -> int:
    """How many of `rows` a shard gets, so that as many workers as there may be are kept busy.

    `samples`: of each row; a row of many is as much work as many rows. Those that a row asks for
    itself, in its column of `sampling`, aren't known here: of Parquet only footers are read, and
    the greatest `n` in one would cut a job into far too many shards for the sake of one row.
    """
    if workers.count == "auto":
        shards = max(_UNTOLD, _PER_WORKER * workers.min)
    else:
        shards = max(_SHARDS, _PER_WORKER * workers.count)
    return min(max(math.ceil(rows / shards), _FEWEST // samples, 1), max(_MOST // samples, 1))


def _shard_rows(files: Sequence[InputFile], job: Job) -> int:
    rows = sum(file.rows for file in files)
    mean_bytes = sum(file.size for file in files) / rows
    even = rows_of_a_shard(rows, job.workers, job.sampling.n)
    return max(1, min(even, int(_MOST_BYTES / max(mean_bytes, 1))))


def _scan(inputs: Inputs, job: Job, reader: Reader, retry: Retry) -> list[Scan]:
    """What is in the files, up to the one in which the job's limit is reached."""
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


def _kept(job: Job, columns: Columns, names: Sequence[str]) -> tuple[str, ...]:
    """The columns to carry along: but for the one that is mapped to `id` and called so itself."""
    names = names if job.output.keep == "all" else job.output.keep
    own, mapped = f"{job.output.prefix}id".casefold(), columns.id
    return tuple(name for name in names if name != mapped or name.casefold() != own)
