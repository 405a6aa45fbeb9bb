"""Which rows a shard's log holds, and which may be appended to it. No I/O."""

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import NamedTuple

from rgpipeline.records import OutputRow


class Progress(IntEnum):
    """A sample's state after one of its segments."""

    IN_PROGRESS = 0  # more segments follow
    DONE = 1
    FAILED = 2  # the row carries an error


class Entry(NamedTuple):
    """What a part's footer says of one of its rows."""

    row: int  # within the shard
    sample: int
    segment: int
    progress: int  # a Progress
    samples: int  # that the row has in all


def entry_of(row: OutputRow) -> Entry:
    if row.error is not None:
        progress = Progress.FAILED
    else:
        progress = Progress.DONE if row.final else Progress.IN_PROGRESS
    return Entry(row.row, row.sample, row.segment, progress, row.samples)


class CommittedRows:
    """The rows, samples and segments that a log holds.

    A sample's segments are published in order, each once, up to a final one. A row is finished
    when all its samples are final. Its entries say how many samples it has, so neither the job nor
    the input is needed. Entries may differ: one that ends the whole row with an error says 1. The
    lowest number counts.

    If a part was removed, a sample may lack segments before some that are there. It becomes final
    when those are published again.
    """

    def __init__(self) -> None:
        self._segments: dict[tuple[int, int], int] = {}  # published, of samples in progress
        self._ahead: dict[tuple[int, int], dict[int, Entry]] = {}  # of these, after a gap
        self._final: dict[int, set[int]] = {}  # samples of rows that aren't finished
        self._samples: dict[int, int] = {}  # number of samples, of rows in progress
        self._finished: set[int] = set()
        self._failed: set[int] = set()

    @property
    def rows_finished(self) -> int:
        """Rows all of whose samples are final, failed ones among them."""
        return len(self._finished)

    @property
    def rows_failed(self) -> int:
        """Finished rows with an error in one of their samples."""
        return len(self._failed & self._finished)

    def finished(self, rows: int) -> bool:
        """Whether all of a shard's `rows` are finished."""
        return len(self._finished) >= rows

    def row_finished(self, row: int) -> bool:
        return row in self._finished

    def row_failed(self, row: int) -> bool:
        return row in self._failed

    def final(self, row: int, sample: int = 0) -> bool:
        """Whether the last segment of a sample is published."""
        return row in self._finished or sample in self._final.get(row, ())

    def segments(self, row: int, sample: int = 0) -> int:
        """Published segments of a sample in progress: the number of its next one."""
        return self._segments.get((row, sample), 0)

    def missing(self, entries: Sequence[Entry]) -> list[int]:
        """Indices of the entries that this log lacks; each must continue its sample.

        Raises ValueError when a segment would leave a gap before it.
        """
        then = self.copy()
        return [i for i, entry in enumerate(entries) if then._append(entry)]

    def add(self, entries: Iterable[Entry]) -> None:
        """Adds the entries of a part, in any order; those already here count once."""
        for entry in entries:
            self.add_one(entry)

    def add_one(self, entry: Entry) -> bool:
        """Adds an entry; False when it is already here."""
        key = entry.row, entry.sample
        published = self.segments(*key)
        ahead = self._ahead.get(key, {})
        if self.final(*key) or entry.segment < published or entry.segment in ahead:
            return False
        self._samples[entry.row] = min(entry.samples, self._samples.get(entry.row, entry.samples))
        if entry.segment > published and entry.progress != Progress.FAILED:
            self._ahead.setdefault(key, {})[entry.segment] = entry
            return True
        following: Entry | None = entry
        while following is not None:
            self._add_next(following)
            following = ahead.pop(self.segments(*key), None)
        return True

    def copy(self) -> "CommittedRows":
        other = CommittedRows()
        other._segments = dict(self._segments)
        other._ahead = {key: dict(entries) for key, entries in self._ahead.items()}
        other._final = {row: set(samples) for row, samples in self._final.items()}
        other._samples = dict(self._samples)
        other._finished = set(self._finished)
        other._failed = set(self._failed)
        return other

    def _append(self, entry: Entry) -> bool:
        """As `add_one`, for an entry that must not leave a gap."""
        row, sample, segment, *_ = entry
        published = self.segments(row, sample)
        known = self.final(row, sample) or segment in self._ahead.get((row, sample), ())
        if segment > published and not known:
            raise ValueError(
                f"row {row}, sample {sample}: segment {segment} follows {published} published ones"
            )
        return self.add_one(entry)

    def _add_next(self, entry: Entry) -> None:
        """Adds the next segment of a sample, or the error that ends it."""
        key = entry.row, entry.sample
        if entry.progress == Progress.IN_PROGRESS:
            self._segments[key] = entry.segment + 1
        else:
            self._end(*key, failed=entry.progress == Progress.FAILED)

    def _end(self, row: int, sample: int, failed: bool) -> None:
        self._forget(row, sample)
        final = self._final.setdefault(row, set())
        final.add(sample)
        if failed:
            self._failed.add(row)
        if len(final) >= self._samples[row]:
            self._finished.add(row)
            for other in [key for key in (*self._segments, *self._ahead) if key[0] == row]:
                self._forget(*other)
            del self._final[row], self._samples[row]

    def _forget(self, row: int, sample: int) -> None:
        self._segments.pop((row, sample), None)
        self._ahead.pop((row, sample), None)
