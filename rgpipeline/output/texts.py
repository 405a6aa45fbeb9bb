"""Whole texts: the segments of every sample joined."""

import json
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import pyarrow.dataset as ds

from rgpipeline.errors import OutputError
from rgpipeline.io.columns import AddedColumns
from rgpipeline.io.options import StorageOptions
from rgpipeline.io.parts import entries_of, parse_part_name
from rgpipeline.output.dataset import open_job, open_output


@dataclass(frozen=True, slots=True)
class WholeText:
    """One sample of one row; `finish_reason` is None when more of it is still to come."""

    id: str
    sample: int
    samples: int  # that its row has in all
    row: tuple[int, int]  # (shard, row within it): ids need not be unique
    text: str  # empty where the job's model has no tokenizer
    finish_reason: str | None
    prompt_tokens: int
    completion_tokens: int
    error: str | None
    kept: dict[str, Any] = field(default_factory=dict)  # the input columns carried along
    completion_ids: list[int] | None = None  # where the job writes them
    logprobs: Any = None  # the same: numbers, or lists of numbers by name
    prefix: str = ""  # of the job's own columns


def cat(
    url: str, id: str | None = None, storage_options: StorageOptions | None = None
) -> Iterator[WholeText]:
    """The published texts of a job (of the rows called `id`), segments joined.

    Texts come as their last segments do; those that still go on come at the end, as far as they
    are. Memory holds the texts that go on, and one batch. Raises OutputError for `task: score`.
    """
    _, job, _ = open_job(url, storage_options)
    if job.task == "score":
        raise OutputError(f"{url}: task: score writes no texts; read its Parquet parts")
    under_way: dict[tuple[tuple[int, int], int], list[WholeText]] = {}
    given_up: set[tuple[int, int]] = set()  # rows that ended before all their samples did
    added = frozenset(AddedColumns.of(job).names)
    for segment in _segments(url, job.output.prefix, added, id, storage_options):
        key = (segment.row, segment.sample)
        before = under_way.setdefault(key, [])
        if before:
            before[-1] = replace(before[-1], kept={})  # every segment of a row has the same
        before.append(segment)
        if segment.finish_reason is not None:
            yield _whole(under_way.pop(key))
        if segment.error is not None and segment.samples == 1:
            given_up.add(segment.row)
    for segments in under_way.values():
        if segments[0].row not in given_up:
            yield _whole(segments)


def _whole(segments: Sequence[WholeText]) -> WholeText:
    return replace(
        segments[-1],
        text="".join(segment.text for segment in segments),
        completion_tokens=sum(segment.completion_tokens for segment in segments),
        completion_ids=_joined([segment.completion_ids for segment in segments]),
        logprobs=_joined([_parsed(segment.logprobs) for segment in segments]),
    )


def _parsed(logprobs: Any) -> Any:
    return json.loads(logprobs) if isinstance(logprobs, str) else logprobs


def _joined(values: Sequence[Any]) -> Any:
    """Lists one after another, or those of each name; None where no segment has any."""
    there = [value for value in values if value is not None]
    if not there:
        return None
    if isinstance(there[0], dict):
        return {name: _joined([value[name] for value in there]) for name in there[0]}
    return list(chain.from_iterable(there))


def _segments(
    url: str, prefix: str, added: Set[str], id: str | None, options: StorageOptions | None
) -> Iterator[WholeText]:
    """Every published segment, in the log's order, as a text of its own."""
    for fragment in open_output(url, options).get_fragments():
        if not isinstance(fragment, ds.ParquetFileFragment):
            return  # an empty table: nothing is published yet
        place = parse_part_name(fragment.path.rpartition("/")[2])
        if place is None:
            continue
        if id is not None and id not in _ids(fragment, prefix):
            continue
        entries = iter(entries_of(fragment.metadata.metadata))
        for batch in fragment.to_batches(batch_size=256):
            for values in batch.to_pylist():
                entry = next(entries)
                if id is None or values[f"{prefix}id"] == id:
                    yield _text(values, prefix, added, (place[0], entry.row), entry.samples)


def _ids(fragment: Any, prefix: str) -> set[str]:
    return set(fragment.to_table(columns=[f"{prefix}id"]).column(0).to_pylist())


def _text(
    values: dict[str, Any], prefix: str, added: Set[str], row: tuple[int, int], samples: int
) -> WholeText:
    names = ("id", "sample", "finish_reason", "prompt_tokens", "completion_tokens", "error")
    ours = {name: values.pop(prefix + name) for name in names}
    ids, logprobs = (
        values.pop(name) if name in added else None  # or it is a column of the input's
        for name in (f"{prefix}completion_ids", f"{prefix}logprobs")
    )
    text = values.pop(f"{prefix}completion") or ""
    del values[f"{prefix}segment"]
    return WholeText(
        text=text,
        row=row,
        samples=samples,
        kept=values,
        completion_ids=ids,
        logprobs=logprobs,
        prefix=prefix,
        **ours,
    )
