"""Whole texts: the segments of every sample joined."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow.dataset as ds

from rgpipeline.errors import OutputError
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
    text: str
    finish_reason: str | None
    prompt_tokens: int
    completion_tokens: int
    error: str | None
    kept: dict[str, Any] = field(default_factory=dict)  # the input columns carried along


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
    open_texts: dict[tuple[tuple[int, int], int], WholeText] = {}
    pieces: dict[tuple[tuple[int, int], int], list[str]] = {}
    given_up: set[tuple[int, int]] = set()  # rows that ended before all their samples did
    for text in _segments(url, job.output.prefix, id, storage_options):
        key = (text.row, text.sample)
        begun = open_texts.pop(key, None)
        tokens = text.completion_tokens + (begun.completion_tokens if begun else 0)
        pieces.setdefault(key, []).append(text.text)
        text = replace(text, completion_tokens=tokens)
        if text.finish_reason is None:
            open_texts[key] = text
        else:
            yield replace(text, text="".join(pieces.pop(key)))
        if text.error is not None and text.samples == 1:
            given_up.add(text.row)
    for key, text in open_texts.items():
        if text.row not in given_up:
            yield replace(text, text="".join(pieces[key]))


def _segments(
    url: str, prefix: str, id: str | None, options: StorageOptions | None
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
                    yield _text(values, prefix, (place[0], entry.row), entry.samples)


def _ids(fragment: Any, prefix: str) -> set[str]:
    return set(fragment.to_table(columns=[f"{prefix}id"]).column(0).to_pylist())


def _text(values: dict[str, Any], prefix: str, row: tuple[int, int], samples: int) -> WholeText:
    names = ("id", "sample", "finish_reason", "prompt_tokens", "completion_tokens", "error")
    ours = {name: values.pop(prefix + name) for name in names}
    text = values.pop(f"{prefix}completion") or ""
    del values[f"{prefix}segment"]
    return WholeText(text=text, row=row, samples=samples, kept=values, **ours)
