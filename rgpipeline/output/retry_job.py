"""Prepares a retry: writes the failed rows of a job as the input of a new job."""

import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rgpipeline.errors import InputError, JobError, OutputError, RowError
from rgpipeline.io.committed_rows import Progress
from rgpipeline.io.input_files import current_version, input_error
from rgpipeline.io.jsonl import JsonLinesReader
from rgpipeline.io.readers import take_rows
from rgpipeline.io.used_values import exact_field, exact_name, exact_text
from rgpipeline.jobfile import parse_job
from rgpipeline.jobfile.loader import override
from rgpipeline.output.job_folder import JobFolder
from rgpipeline.output.published_parts import published_parts
from rgpipeline.plan.plan_record import Plan
from rgpipeline.records import InputFile
from rgpipeline.spec import Job
from rgpipeline.storage.filesystems import StorageOptions
from rgpipeline.storage.reachable import check_reachable
from rgpipeline.storage.store import Store, open_store

NOTE = "_rgp/retry.json"
_ID = "rgp_id"  # the column of ids, if the job maps none

FailedRows = Mapping[int, Mapping[int, str]]  # shard → row within it → id


@dataclass(frozen=True, slots=True)
class Retry:
    """A job over the failed rows of another."""

    job: Job
    rows: int
    left_out: tuple[str, ...] = ()  # why some failed rows still can't be read


def prepare_retry(
    url: str,
    new: str,
    overrides: Sequence[str] = (),
    storage_options: StorageOptions | None = None,
) -> Retry | None:
    """Writes the failed rows of the job at `url` under `new`; None when no row has failed.

    Rows are read again from the input, by the plan, and keep their ids. A second call with the same
    `new` uses what the first one wrote. Raises OutputError when `url` is no job's output or `new`
    can't take one, InputError when none of the rows can be read.
    """
    check_reachable([new], storage_options)
    folder = JobFolder.open(url, storage_options)
    store, job, plan = folder.store, folder.job, folder.plan
    target = open_store(new, storage_options)
    written = _written(target, store)
    left_out: tuple[str, ...] = ()
    if written is None:
        failed = _failed_rows(folder)
        if not failed:
            return None
        _require_free(target)
        name, data, rows, left_out = _gather(plan, failed, job)
        note: dict[str, Any] = {"of": store.url(), "input": name, "rows": rows}
        target.create(name, data)
        target.create(NOTE, json.dumps(note).encode())
        written = _written(target, store) or note
    retried = _retry_job(job, plan, new, target.url(written["input"]), overrides)
    return Retry(retried, written["rows"], left_out)


def _written(target: Store, store: Store) -> dict[str, Any] | None:
    """The note of an earlier call; None without one."""
    try:
        note: dict[str, Any] = json.loads(target.read(NOTE))
        of, _, _ = note["of"], note["input"], note["rows"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"{target.url(NOTE)}: not understood ({error!r}); choose another output for the retry"
        ) from error
    if of != store.url():
        raise OutputError(
            f"{target.url()}: holds a retry of {note['of']}; choose another output for this one"
        )
    return note


def _require_free(target: Store) -> None:
    there = [name for name in target.entries() if not name.startswith(".")]
    if there:
        raise OutputError(
            f"{target.url()}: not empty (it holds {', '.join(there[:5])}); choose a new output"
        )


def _failed_rows(folder: JobFolder) -> FailedRows:
    failed: dict[int, dict[int, str]] = {}
    for part in published_parts(folder):
        bad = [
            (index, entry.row)
            for index, entry in enumerate(part.entries)
            if part.fresh[index] and entry.progress == Progress.FAILED
        ]
        if bad:
            ids = part.column(f"{folder.job.output.prefix}id")
            failed.setdefault(part.shard, {}).update({row: ids[index] for index, row in bad})
    return failed


def _gather(plan: Plan, failed: FailedRows, job: Job) -> tuple[str, bytes, int, tuple[str, ...]]:
    """(object name, its bytes, rows, why others are left out) of the new job's input."""
    options = job.storage_options
    current = replace(plan, files=tuple(_current(file, options) for file in plan.files))
    if plan.format == "openai-batch":
        lines = list(_lines(current, failed, options))
        return "_rgp/retry.jsonl", b"\n".join(lines) + b"\n", len(lines), ()
    faults: list[str] = []
    mapped = job.input.columns.id is not None
    tables = list(_tables(current, failed, options, faults, mapped))
    table = pa.concat_tables(tables)
    reasons = tuple(f"{fault} ({rows} rows)" for fault, rows in Counter(faults).most_common(5))
    if not table.num_rows:
        raise InputError("none of the failed rows can be read:\n  " + "\n  ".join(reasons))
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return "_rgp/retry.parquet", sink.getvalue(), table.num_rows, reasons


def _current(file: InputFile, options: StorageOptions) -> InputFile:
    """The file as it is now; the person may have mended it."""
    try:
        size, version = current_version(file.path, options)
    except Exception as error:
        raise input_error(file.path, error) from error
    if (size, version) == (file.size, file.version):
        return file
    return replace(file, size=size, version=version, marks=())


def _tables(
    plan: Plan, failed: FailedRows, options: StorageOptions, faults: list[str], has_ids: bool
) -> Iterator[pa.Table]:
    for index, ids in sorted(failed.items()):
        input = plan.read(plan.shards[index], options)
        values: dict[int, Mapping[str, Any]] = {}
        for row in sorted(ids):
            try:
                if row in input.faults:
                    raise RowError(input.faults[row])
                values[row] = input.values(row)
            except RowError as error:
                faults.append(str(error))
        rows = list(values)
        kept = take_rows(input.table, rows)
        columns = dict(zip(kept.schema, kept.columns, strict=True))
        columns |= _used_columns(plan, list(values.values()))
        if not has_ids:
            names = pa.array([ids[row] for row in rows], pa.string())
            columns[pa.field(_id_column(plan), names.type)] = names
        yield pa.table(list(columns.values()), schema=pa.schema(list(columns)))


def _used_columns(plan: Plan, rows: Sequence[Mapping[str, Any]]) -> dict[pa.Field, pa.Array]:
    """The columns that prompts, ids and sampling come from, rebuilt from the rows' values."""
    columns: dict[pa.Field, pa.Array] = {}
    for name in plan.used:
        field = exact_field(exact_name(name) if name in plan.kept else name)
        values = [None if row[name] is None else exact_text(row[name]) for row in rows]
        columns[field] = pa.array(values, field.type)
    return columns


def _lines(plan: Plan, failed: FailedRows, options: StorageOptions) -> Iterator[bytes]:
    """The lines of failed requests, as they are in the batch files."""
    reader = JsonLinesReader(options)
    for index, ids in sorted(failed.items()):
        start = 0
        for span in plan.shards[index].spans:
            rows = [row - start + span.start for row in ids if start <= row < start + span.rows]
            yield from reader.lines(plan.files[span.file], rows)
            start += span.rows


def _id_column(plan: Plan) -> str:
    name = _ID
    while name in plan.schema.names or name in plan.used:
        name += "_"
    return name


def _retry_job(job: Job, plan: Plan, new: str, path: str, overrides: Sequence[str]) -> Job:
    facts = job.model_dump(mode="json")
    facts["name"] = f"{job.name[:57]}-retry"
    facts["input"] |= {"path": path, "limit": None, "format": plan.format}
    facts["output"]["path"] = new
    if plan.format != "openai-batch":
        columns = plan.columns.model_dump()
        columns["id"] = job.input.columns.id or _id_column(plan)
        facts["input"] |= {"format": "parquet", "columns": columns}
        facts["output"]["keep"] = list(plan.kept)
    faults = [fault for text in overrides if (fault := override(facts, text))]
    if faults:
        raise JobError("\n".join(faults))
    return parse_job(facts, "retry")
