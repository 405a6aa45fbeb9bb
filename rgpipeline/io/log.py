"""The append-only log of a shard's parts: creating the next part, if absent, is the commit.

A part's footer says which rows it has, so a log is read by its footers alone.
"""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from rgpipeline.errors import OutputError, StoreError
from rgpipeline.io.committed_rows import CommittedRows, Entry, entry_of
from rgpipeline.io.parts import parse_entries, parse_part_name, part_name, part_numbers
from rgpipeline.records import OutputRow
from rgpipeline.storage.store import Store

Build = Callable[[Sequence[OutputRow], int], bytes]  # rows and part number to the part's bytes

_TAIL = 1 << 16  # bytes; the whole footer of most parts
_MAGIC = b"PAR1"
_THREADS = 32  # waiting for the store, not working


@dataclass(frozen=True, slots=True)
class PartFooter:
    """The contents of a part's footer."""

    shard: int
    part: int
    attempt: str  # the attempt id of its writer
    fingerprint: str  # of the plan
    entries: tuple[Entry, ...]  # one for each of its rows, in order
    prompt_tokens: int  # of rows whose first segment is here
    completion_tokens: int  # that are here; generated, or read for a task's results


def read_footer(store: Store, name: str, fingerprint: str | None = None) -> PartFooter:
    """Reads a part's footer, by range.

    Args:
      fingerprint: of the plan the part must belong to, if given.

    Raises:
      FileNotFoundError: there is no such part.
      OutputError: it is damaged, of another job or program, or has another part's name.
    """
    try:
        metadata = _read_metadata(store, name)
    except (pa.ArrowException, OSError):  # a second read decides whether it is damaged
        try:
            metadata = _read_metadata(store, name)
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise OutputError(unusable(store.url(name), f"damaged: {_in_a_line(error)}")) from error
    footer = _parse_footer(metadata, store.url(name))
    fault = _misplaced(footer, name, fingerprint)
    if fault:
        raise OutputError(unusable(store.url(name), fault))
    return footer


def read_footers(
    store: Store, names: Sequence[str], fingerprint: str | None = None
) -> dict[str, PartFooter]:
    """The footers of parts by name, in the given order; parts that are gone by now are left out.

    Raises OutputError as `read_footer`.
    """

    def read(name: str) -> PartFooter | None:
        with suppress(FileNotFoundError):
            return read_footer(store, name, fingerprint)
        return None

    with ThreadPoolExecutor(_THREADS) as pool:
        footers = list(pool.map(read, names))
    return {name: footer for name, footer in zip(names, footers, strict=True) if footer}


def unusable(url: str, fault: str) -> str:
    """The message for a part that can't be used: the fault, and what to do."""
    return (
        f"{url}: {fault}; remove this file (with no run of the job going on) and run the job "
        f"again: it does the rows that are nowhere else again"
    )


def _read_metadata(store: Store, name: str) -> pq.FileMetaData:
    """Raises FileNotFoundError; ArrowException or OSError if it isn't a complete Parquet file."""
    tail = store.read_tail(name, _TAIL)
    length = int.from_bytes(tail[-8:-4], "little") + 8
    if len(tail) < 12 or not tail.endswith(_MAGIC):
        raise pa.ArrowInvalid("not a whole Parquet file")
    if length > len(tail):
        tail = store.read_tail(name, length)
    return pq.read_metadata(pa.BufferReader(_MAGIC + tail[-length:]))


def _parse_footer(metadata: pq.FileMetaData, url: str) -> PartFooter:
    values = metadata.metadata or {}
    if b"rgp.rows" not in values:
        raise OutputError(unusable(url, "not written by rgpipeline"))
    try:
        totals = json.loads(values[b"rgp.tokens"])
        footer = PartFooter(
            shard=int(values[b"rgp.shard"]),
            part=int(values[b"rgp.part"]),
            attempt=values[b"rgp.attempt"].decode(),
            fingerprint=values[b"rgp.job"].decode(),
            entries=parse_entries(values[b"rgp.rows"]),
            prompt_tokens=totals["prompt"],
            completion_tokens=totals["completion"],
        )
    except (KeyError, TypeError, ValueError) as error:
        fault = f"its footer is not understood ({type(error).__name__}: {_in_a_line(error)})"
        raise OutputError(unusable(url, fault)) from error
    if len(footer.entries) != metadata.num_rows:
        rows = f"{metadata.num_rows} rows where {len(footer.entries)} were written"
        raise OutputError(unusable(url, f"changed by another program: it has {rows}"))
    return footer


def _misplaced(footer: PartFooter, name: str, fingerprint: str | None) -> str:
    """Why a part does not belong under this name in this job's folder; empty if it does."""
    if fingerprint not in (None, footer.fingerprint):
        return f"written by {footer.attempt} for another job"
    named = parse_part_name(name)
    if named is not None and named != (footer.shard, footer.part):
        return f"a copy of {part_name(footer.shard, footer.part)}"
    return ""


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


class ShardLog:
    """One writer's view of one shard's log. Not for several threads at once.

    The log is the set of existing parts. Numbers may be missing, because a person may remove a
    damaged part. A writer first reads all existing parts, then creates the part after the highest
    number; never one with a missing lower number, since other writers might not look there again.
    A writer that loses the race for a number reads that part, drops the rows in it from its own,
    and tries the next number. So nobody waits, and no row is published twice.
    """

    def __init__(self, store: Store, shard: int, fingerprint: str | None = None) -> None:
        """`fingerprint`: of the plan; if given, every part must have it."""
        self._store = store
        self._fingerprint = fingerprint
        self._read: set[int] = set()  # numbers of parts that `committed` has
        self._absent: set[int] = set()  # lower numbers without a part
        self._next = 0
        self.shard = shard
        self.committed = CommittedRows()

    @property
    def parts(self) -> int:
        """How many parts this log has read and written."""
        return len(self._read)

    def refresh(self) -> None:
        """Reads the footers of parts that this log hasn't read; afterwards `committed` has them.

        Raises OutputError for a part that isn't one of this log's.
        """
        self._read_listed()
        while self._read_next():  # what a listing doesn't show yet
            pass

    def append(self, rows: Sequence[OutputRow], build: Build) -> list[OutputRow]:
        """Publishes those of `rows` that the log lacks, as one part; returns them.

        Segments of one sample must be in order. `build(rows, part)` makes the part's bytes; it is
        called again, with fewer rows, each time another writer was faster. Raises StoreError when
        the store fails for good: then all of the part was published, or nothing.
        """
        while True:
            self._read_listed()
            missing = self.committed.missing([entry_of(row) for row in rows])
            rows = [rows[index] for index in missing]
            if not rows:
                return []
            name = part_name(self.shard, self._next)
            if self._store.create(name, build(rows, self._next)):
                self.committed.add(entry_of(row) for row in rows)
                self._read.add(self._next)
                self._next += 1
                return list(rows)
            if not self._read_next():
                raise self._inconsistent(self._next)

    def _read_listed(self) -> None:
        """Reads the parts that a listing shows, and looks for those missing below the highest."""
        listed = part_numbers(self._store, self.shard)
        footers = {number: self._footer(number) for number in listed if number not in self._read}
        if gone := [number for number, footer in footers.items() if footer is None]:
            self._require_removed(gone)
        self._next = max([self._next, *(number + 1 for number in listed)])
        known = self._read | self._absent | footers.keys()
        for number in [number for number in range(self._next) if number not in known]:
            footers[number] = self._footer(number)
        for number, footer in sorted(footers.items()):
            if footer is None:
                self._absent.add(number)
            else:
                self._take(number, footer)

    def _require_removed(self, numbers: Sequence[int]) -> None:
        """Raises StoreError for parts that can't be read and are still listed."""
        still = set(numbers).intersection(part_numbers(self._store, self.shard))
        if still:
            raise self._inconsistent(min(still))

    def _inconsistent(self, number: int) -> StoreError:
        return StoreError(
            f"{self._store.url(part_name(self.shard, number))}: exists and is absent for reading; "
            f"this store isn't consistent enough to publish rows to"
        )

    def _read_next(self) -> bool:
        footer = self._footer(self._next)
        if footer is None:
            return False
        self._take(self._next, footer)
        self._next += 1
        return True

    def _footer(self, number: int) -> PartFooter | None:
        try:
            return read_footer(self._store, part_name(self.shard, number), self._fingerprint)
        except FileNotFoundError:
            return None

    def _take(self, number: int, footer: PartFooter) -> None:
        self.committed.add(footer.entries)
        self._read.add(number)
        self._absent.discard(number)
