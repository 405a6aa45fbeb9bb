"""The append-only log of a shard's parts: creating the next part, if absent, is the commit."""

from collections.abc import Callable, Sequence

from rgpipeline.errors import StoreError
from rgpipeline.io.committed_rows import CommittedRows, entry_of
from rgpipeline.io.parts import PartFooter, part_name, part_numbers, read_footer
from rgpipeline.records import OutputRow
from rgpipeline.storage.store import Store

Build = Callable[[Sequence[OutputRow], int], bytes]  # rows and part number to the part's bytes


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
