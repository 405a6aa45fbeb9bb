"""A shard's append-only log of parts: one create-if-absent is commit, lock and recovery."""

from collections.abc import Callable, Sequence

from rgpipeline.errors import OutputError, StoreError
from rgpipeline.io.cover import Cover, entry_of
from rgpipeline.io.parts import part_name, read_footer
from rgpipeline.io.store import Store
from rgpipeline.records import OutputRow

Build = Callable[[Sequence[OutputRow], int], bytes]  # rows and part number to the part's bytes


class ShardLog:
    """One writer's view of one shard's log. Not for several threads at once.

    Part k is created by someone who has read parts 0 to k-1. Whoever loses that race reads the
    new part, drops what it holds and goes on with k+1: nobody waits, and no row comes twice.
    """

    def __init__(self, store: Store, shard: int, fingerprint: str | None = None) -> None:
        """`fingerprint`, of the plan, is what every part must carry, if given."""
        self._store = store
        self._fingerprint = fingerprint
        self.shard = shard
        self.parts = 0  # read so far
        self.cover = Cover()

    def refresh(self) -> None:
        """Reads the footers of parts that this log hasn't read; afterwards `cover` has them.

        Raises OutputError for a part that isn't one of this log's.
        """
        while True:
            name = part_name(self.shard, self.parts)
            try:
                footer = read_footer(self._store, name)
            except FileNotFoundError:
                return
            if self._fingerprint not in (None, footer.fingerprint):
                raise OutputError(
                    f"{self._store.url(name)}: written by {footer.attempt} for another job, one "
                    f"that had this folder before; end it, remove the file and run again"
                )
            self.cover.add(footer.entries)
            self.parts += 1

    def append(self, rows: Sequence[OutputRow], build: Build) -> list[OutputRow]:
        """Publishes those of `rows` that the log doesn't hold, as one part; returns them.

        Several segments of one sample stand in their order. `build(rows, part)` makes the
        part's bytes; it is called again with fewer rows each time somebody else was faster.
        Raises StoreError when the store fails for good: nothing, or all of it, was published.
        """
        while True:
            missing = self.cover.missing([entry_of(row) for row in rows])
            rows = [rows[index] for index in missing]
            if not rows:
                return []
            name = part_name(self.shard, self.parts)
            if self._store.create(name, build(rows, self.parts)):
                self.cover.add(entry_of(row) for row in rows)
                self.parts += 1
                return list(rows)
            behind = self.parts
            self.refresh()
            if self.parts == behind:
                raise StoreError(
                    f"{self._store.url(name)}: exists for writing and is absent for reading; this "
                    f"store isn't consistent enough to publish rows to"
                )
