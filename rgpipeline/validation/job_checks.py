"""The checks of `validate`: the model, the output folder, the first rows and their ids."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from rgpipeline.errors import OutputError, RgpipelineError, RowError
from rgpipeline.io.shard_rows import InputRows, read_shard
from rgpipeline.model.collectives import Chips
from rgpipeline.model.sharding import check_model
from rgpipeline.model.weights.checkpoint import open_checkpoint
from rgpipeline.plan import Plan
from rgpipeline.plan.plan_files import check_folder, require_usable
from rgpipeline.records import Shard, Span
from rgpipeline.spec import Job, Sampling
from rgpipeline.storage.filesystems import protocol_of, resolve_options
from rgpipeline.storage.store import Store
from rgpipeline.tasks import task_of
from rgpipeline.tasks.row_prompts import Prompts
from rgpipeline.tasks.task import RowLabel
from rgpipeline.text.stops import never_found
from rgpipeline.text.tokenizer import Tokenizer
from rgpipeline.wording import count, counted
from rgpipeline.worker.worker_setup import open_prompts

_ROWS = 1000  # of which prompts are made
_ID_ROWS = 200_000  # of which ids are read: takes about 40 MB of memory and two seconds
_SHOWN = 3
Repeated = tuple[str, int, int]  # an id, the first row with it, this row


def model_findings(job: Job, plan: Plan | None) -> tuple[list[str], list[str]]:
    """Faults and warnings about the model, its tokenizer and its chat template.

    Reads only the weights' headers and small files.
    """
    options = resolve_options(job.storage_options)
    faults: list[str] = []
    warnings: list[str] = []
    vocab_size = None
    try:
        config, _, _, note = open_checkpoint(job.model.weights, options, compare=False)
        vocab_size = config.vocab_size
        warnings += [f"{job.model.weights}: {note}"] if note else []
        check_model(config, Chips(model=job.workers.mesh.model), "workers.mesh")
    except RgpipelineError as error:
        faults.append(str(error))
    if plan is not None and (vocab_size is not None or job.model.tokenizer is not None):
        try:
            prompts = open_prompts(job, plan, options)
            if vocab_size is not None:
                prompts.require_known_ids(vocab_size)
        except RgpipelineError as error:
            faults.append(str(error))
    if vocab_size is not None:
        faults += _ids_outside(job.sampling, vocab_size)
    return faults, warnings


def _ids_outside(sampling: Sampling, vocab_size: int) -> Iterator[str]:
    for field, ids in (("stop_ids", sampling.stop_ids), ("logit_bias", sampling.logit_bias)):
        outside = [token for token in ids if not 0 <= token < vocab_size]
        if outside:
            yield (
                f"sampling.{field}: {outside[0]} is no token id; the model has {vocab_size:,} "
                f"(0 to {vocab_size - 1})"
            )


def output_warnings(job: Job, store: Store) -> tuple[str, ...]:
    """The warnings that a run would give; raises the OutputError that it would raise.

    In a bucket, creates an object and removes it, to see whether that is allowed. Creates nothing
    on a disk.
    """
    warnings = check_folder(job, store)
    if protocol_of(job.output.path) == "file":
        _require_writable(store)
    else:
        require_usable(store)
    return warnings


def _require_writable(store: Store) -> None:
    folder = Path(store.url())
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(
            f"{store.url()}: nothing can be written into {folder}; change its permissions, or "
            f"name another output.path"
        )


def row_warnings(job: Job, plan: Plan) -> Iterator[str]:
    """Warns of stop strings that never match, and of the first rows that would fail."""
    options = resolve_options(job.storage_options)
    first = plan.shards[0]
    input = plan.read(Shard(first.index, first.spans), options)
    prompts = open_prompts(job, plan, options)
    yield from _stop_warnings(job, prompts.tokenizer)
    rows, task = min(_ROWS, first.rows), task_of(job)
    bad: list[str] = []
    for row in range(rows):
        fault = input.faults.get(row)
        if fault is None:
            try:
                values = input.values(row)
                task.work(RowLabel(first.index, row, "", ""), values, prompts)
                prompts.row_id(values)
            except RowError as error:
                fault = str(error)
        if fault is not None:
            name, number = input.origin(row)
            bad.append(f"{name}, row {number:,}: {fault}")
    if bad:
        more = [f"… and {len(bad) - _SHOWN} more"] if len(bad) > _SHOWN else []
        yield (
            f"{len(bad)} of the first {rows:,} rows would fail (rows are counted from 0):\n  "
            + "\n  ".join([*bad[:_SHOWN], *more])
        )


def _stop_warnings(job: Job, tokenizer: Tokenizer | None) -> Iterator[str]:
    if tokenizer is None:
        return
    for stop, name in never_found(job.sampling.stop, tokenizer):
        yield (
            f"sampling.stop: {stop!r} never ends a completion, for {name} is a token without "
            f"text; give {name!r} alone to stop at that token"
        )


def id_warnings(job: Job, plan: Plan, rows: int = _ID_ROWS) -> Iterator[str]:
    """Warnings about the ids of the first `rows` rows; reads only their column.

    Default ids (`file#row`) all differ and are not read. Raises StoreError.
    """
    if plan.columns.id is None:
        return
    spans = _first(plan, rows)
    read = sum(span.rows for span in spans)
    input = _read(job, plan, plan.columns.id, spans)
    prompts = Prompts(plan.columns, job.sampling, None, requires_id=False)
    repeated, empty = _repeated_ids(input, prompts, read)
    among = f"{'all ' if read == plan.rows else 'the first '}{counted(read, 'row')}"
    if repeated:
        yield (
            f"{count(len(repeated))} of {among} have an id that an earlier row has: "
            f"{_examples(input, repeated)}; equal prompts get equal samples by equal ids, and "
            f"their answers can't be told apart"
        )
    if empty:
        yield f"{count(empty)} of {among} have an empty text as id"


def _first(plan: Plan, rows: int) -> tuple[Span, ...]:
    """The first rows of the job, file by file."""
    spans: list[Span] = []
    for index, file in enumerate(plan.files):
        if stop := min(rows, file.rows):
            spans.append(Span(index, 0, stop))
            rows -= stop
    return tuple(spans)


def _read(job: Job, plan: Plan, name: str, spans: tuple[Span, ...]) -> InputRows:
    options = resolve_options(job.storage_options)
    reader, nothing_kept = plan.reader(options), pa.schema([])
    shard = Shard(0, spans)
    return read_shard(plan.files, shard, reader, nothing_kept, (name,), plan.partitions, options)


def _repeated_ids(input: InputRows, prompts: Prompts, rows: int) -> tuple[list[Repeated], int]:
    """Every repetition of an id, and the number of empty ids."""
    first: dict[str, int] = {}
    repeated: list[Repeated] = []
    empty = 0
    for row in range(rows):
        id = _id(input, prompts, row)
        if id is None:
            continue
        empty += id == ""
        if first.setdefault(id, row) != row:
            repeated.append((id, first[id], row))
    return repeated, empty


def _id(input: InputRows, prompts: Prompts, row: int) -> str | None:
    if row in input.faults:
        return None
    try:
        return prompts.row_id(input.values(row))
    except RowError:
        return None


def _examples(input: InputRows, repeated: Sequence[Repeated]) -> str:
    shown = [f"{id!r} ({_places(input, first, again)})" for id, first, again in repeated[:_SHOWN]]
    return ", ".join(shown) + (", …" if len(repeated) > _SHOWN else "")


def _places(input: InputRows, first: int, again: int) -> str:
    (one, row), (other, another) = input.origin(first), input.origin(again)
    if one == other:
        return f"{one}, rows {count(row)} and {count(another)}"
    return f"{one}, row {count(row)}; {other}, row {count(another)}"
