"""Figures of the published rows: lengths, finish reasons, failures, and samples to read."""

import math
import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from rgpipeline.output import JobFolder, WholeText, whole_texts
from rgpipeline.output.published_parts import published_parts
from rgpipeline.records import SampleKey
from rgpipeline.tasks import task_of

_BARS = 24
_FAILURES = 200  # rows that are listed
_SAMPLES = 6
_SEARCHED = 2000  # texts that samples are taken from


@dataclass(frozen=True, slots=True)
class FailedRow:
    """One row that carries an error."""

    id: str
    error: str


@dataclass(slots=True)
class RowFacts:
    """Figures of all published rows."""

    lengths: Counter[int] = field(default_factory=Counter)  # tokens generated → samples
    reasons: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)  # without their numbers
    refused_grammars: int = 0  # rows
    failures: list[FailedRow] = field(default_factory=list)
    samples: list[WholeText] = field(default_factory=list)

    @property
    def finished(self) -> int:
        return sum(self.lengths.values())

    def quantile(self, share: float) -> int:
        """The length below which `share` of the samples lie; 0 without any."""
        wanted, seen = share * self.finished, 0
        for length in sorted(self.lengths):
            seen += self.lengths[length]
            if seen >= wanted:
                return length
        return 0


def row_facts(folder: JobFolder) -> RowFacts:
    """Reads the figures of every published row, and the texts of a few samples."""
    facts = RowFacts()
    p = folder.job.output.prefix
    task = task_of(folder.job, folder.plan.choices)
    counted = task.token_column
    names = [f"{p}{name}" for name in ("id", "sample", "error", counted)]
    if task.writes_texts:
        names.append(f"{p}finish_reason")
    bare = [name.removeprefix(p) for name in names]
    begun: dict[SampleKey, tuple[int, str | None]] = {}
    for part in published_parts(folder):
        for entry, whole, values in part.rows(names):
            row = dict(zip(bare, values.values(), strict=True))
            if row["error"] is not None:
                _count_error(facts, row)
                continue
            key = SampleKey(part.shard, entry.row, entry.sample)
            tokens, reason = begun.pop(key, (0, None))
            tokens += task.counted(row[counted])
            reason = reason or row.get("finish_reason", task.done)
            if whole:
                facts.reasons[reason or ""] += 1
                facts.lengths[tokens] += 1
            else:
                begun[key] = tokens, reason
    if task.writes_texts:
        facts.samples = _samples(folder)
    return facts


def _count_error(facts: RowFacts, row: dict[str, Any]) -> None:
    facts.reasons["error"] += 1
    facts.errors[_kind(row["error"])] += 1
    facts.refused_grammars += "structured_outputs" in row["error"]
    if len(facts.failures) < _FAILURES:
        facts.failures.append(FailedRow(row["id"], row["error"]))


def _kind(error: str) -> str:
    """The error without its numbers, which differ by row, so that like errors count together."""
    return re.sub(r"\d[\d,]*", "…", error)[:200]


def histogram(lengths: Counter[int]) -> list[tuple[int, int, int]]:
    """Bars of equal width: (from, up to and including, samples)."""
    if not lengths:
        return []
    low, high = min(lengths), max(lengths)
    width = max(1, math.ceil((high - low + 1) / _BARS))
    bars = [0] * math.ceil((high - low + 1) / width)
    for length, samples in lengths.items():
        bars[(length - low) // width] += samples
    return [
        (low + index * width, min(low + (index + 1) * width - 1, high), samples)
        for index, samples in enumerate(bars)
    ]


def _samples(folder: JobFolder) -> list[WholeText]:
    """Some completions, spread evenly over the first ones."""
    texts = [
        text
        for text in islice(whole_texts(folder), _SEARCHED)
        if text.error is None and text.text.strip()
    ]
    step = max(1, len(texts) // _SAMPLES)
    return texts[::step][:_SAMPLES]
