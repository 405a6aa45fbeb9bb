"""Whole texts: the segments of every sample joined."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, NamedTuple

from rgpipeline.errors import OutputError
from rgpipeline.output.job_folder import JobFolder
from rgpipeline.output.published_parts import published_parts
from rgpipeline.spec import Job
from rgpipeline.tasks import added_columns, task_of


@dataclass(frozen=True, slots=True)
class WholeText:
    """One sample of one row; `finish_reason` is None when more of it is still to come."""

    id: str
    sample: int
    samples: int  # of the row in all
    row: tuple[int, int]  # (shard, row in the shard); ids may repeat
    text: str  # empty where the job's model has no tokenizer
    finish_reason: str | None
    prompt_tokens: int
    completion_tokens: int
    error: str | None
    kept: dict[str, Any] = field(default_factory=dict)  # the kept input columns
    completion_ids: list[int] | None = None  # where the job writes them
    logprobs: Any = None  # as `completion_ids`; numbers, or lists of numbers by name
    prefix: str = ""  # of the columns that the job adds
    model: str = ""  # the job's


def whole_texts(folder: JobFolder, id: str | None = None) -> Iterator[WholeText]:
    """The published texts of a job (of the rows called `id`), segments joined.

    A text comes with its last segment; unfinished ones come at the end, as far as they are.
    Unfinished texts and one batch of rows are kept in memory. Raises OutputError when the job's
    task writes no texts.
    """
    if not task_of(folder.job).writes_texts:
        raise OutputError(
            f"{folder.store.url()}: task: {folder.job.task} writes no texts; read its Parquet parts"
        )
    unfinished: dict[tuple[tuple[int, int], int], list[_Segment]] = {}
    given_up: set[tuple[int, int]] = set()  # rows that failed as a whole
    for segment in _segments(folder, id):
        text = segment.text
        key = (text.row, text.sample)
        before = unfinished.setdefault(key, [])
        if before:  # every segment repeats them: keep one copy
            before[-1] = before[-1]._replace(text=replace(before[-1].text, kept={}))
        before.append(segment)
        if segment.whole:
            yield _joined_text(unfinished.pop(key))
        if text.error is not None and text.samples == 1:
            given_up.add(text.row)
    for segments in unfinished.values():
        if segments[0].text.row not in given_up:
            yield _joined_text(segments)


class _Segment(NamedTuple):
    """A published segment, as a text."""

    number: int
    whole: bool  # its sample is complete with it
    text: WholeText


def _joined_text(segments: Sequence[_Segment]) -> WholeText:
    """The text that segments, in published order, make up to the first gap."""
    ordered = sorted(segments, key=lambda segment: segment.number)
    texts = [segment.text for index, segment in enumerate(ordered) if segment.number == index]
    return replace(
        ordered[-1].text,
        text="".join(text.text for text in texts),
        kept=segments[-1].text.kept,
        finish_reason=ordered[-1].text.finish_reason if segments[-1].whole else None,
        completion_tokens=sum(text.completion_tokens for text in texts),
        completion_ids=_joined([text.completion_ids for text in texts]),
        logprobs=_joined([_parsed(text.logprobs) for text in texts]),
    )


def _parsed(logprobs: Any) -> Any:
    return json.loads(logprobs) if isinstance(logprobs, str) else logprobs


def _joined(values: Sequence[Any]) -> Any:
    """Lists joined, or dicts of lists joined by name; None where no segment has any."""
    there = [value for value in values if value is not None]
    if not there:
        return None
    if isinstance(there[0], dict):
        return {name: _joined([value[name] for value in there]) for name in there[0]}
    return list(chain.from_iterable(there))


def _segments(folder: JobFolder, id: str | None) -> Iterator[_Segment]:
    """Every published segment, in the log's order."""
    id_column = f"{folder.job.output.prefix}id"
    for part in published_parts(folder):
        if id is not None and id not in part.column(id_column):
            continue
        for entry, whole, values in part.rows():
            if id is None or values[id_column] == id:
                text = _text(values, folder.job, (part.shard, entry.row), entry.samples)
                yield _Segment(entry.segment, whole, text)


def _text(values: dict[str, Any], job: Job, row: tuple[int, int], samples: int) -> WholeText:
    prefix, added = job.output.prefix, added_columns(job).names
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
        model=job.model.weights,
        **ours,
    )
