"""What a shard's log covers, and what may be appended to it: the rule, free of any I/O."""

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import NamedTuple

from rgpipeline.records import OutputRow


class Progress(IntEnum):
    """How a sample stands after one of its segments."""

    GOES_ON = 0  # more segments follow
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
    """The footer's entry for an output row."""
    if row.error is not None:
        progress = Progress.FAILED
    elif row.final or row.score is not None:
        progress = Progress.DONE
    else:
        progress = Progress.GOES_ON
    return Entry(row.row, row.sample, row.segment, progress, row.samples)


class Cover:
    """The rows, samples and segments that a log holds.

    A sample's segments are published in order, once each, up to a final one. A row is finished
    when all its samples are; it has as many as its entries say (the fewest, should a row that
    had begun be given up as a whole), so a log can be read without the job or the input.
    """

    def __init__(self) -> None:
        self._segments: dict[tuple[int, int], int] = {}  # of samples that go on
        self._final: dict[int, set[int]] = {}  # samples of rows that aren't finished
        self._samples: dict[int, int] = {}  # of rows that have begun
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
        """How many segments of a sample that goes on are published: the number of its next."""
        return self._segments.get((row, sample), 0)

    def begun(self) -> list[tuple[int, int]]:
        """(row, sample) of every sample of which some segments, but not the last, are published."""
        return sorted(self._segments)

    def missing(self, entries: Sequence[Entry]) -> list[int]:
        """Indices of the entries that go on exactly where this log ends; others it holds already.

        Raises ValueError when a segment would leave a gap before it.
        """
        ahead = self.copy()
        return [i for i, entry in enumerate(entries) if ahead._try_add(entry)]

    def add(self, entries: Iterable[Entry]) -> None:
        """Takes in what a part holds; what is held already counts once.

        Raises ValueError when a segment leaves a gap before it.
        """
        for entry in entries:
            self._try_add(entry)

    def copy(self) -> "Cover":
        other = Cover()
        other._segments = dict(self._segments)
        other._final = {row: set(samples) for row, samples in self._final.items()}
        other._samples = dict(self._samples)
        other._finished = set(self._finished)
        other._failed = set(self._failed)
        return other

    def _try_add(self, entry: Entry) -> bool:
        row, sample, segment, progress, samples = entry
        published = self.segments(row, sample)
        if self.final(row, sample) or segment < published:
            return False
        if segment > published:
            raise ValueError(
                f"row {row}, sample {sample}: segment {segment} follows {published} published ones"
            )
        self._samples[row] = min(samples, self._samples.get(row, samples))
        if progress == Progress.GOES_ON:
            self._segments[row, sample] = published + 1
        else:
            self._end(row, sample, failed=progress == Progress.FAILED)
        return True

    def _end(self, row: int, sample: int, failed: bool) -> None:
        self._segments.pop((row, sample), None)
        final = self._final.setdefault(row, set())
        final.add(sample)
        if failed:
            self._failed.add(row)
        if len(final) >= self._samples[row]:
            self._finished.add(row)
            for other in [key for key in self._segments if key[0] == row]:
                del self._segments[other]
            del self._final[row], self._samples[row]
