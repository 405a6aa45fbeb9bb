"""Compares two outputs, read with pyarrow alone."""

from collections import Counter
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from tests.storage.servers import Place

Key = tuple[str, int, int]  # id, sample, segment


@dataclass(frozen=True)
class Comparison:
    """How a disturbed output differs from the undisturbed one."""

    rows: int  # of the input
    segments: int
    duplicates: int
    missing: int
    differing: int

    @property
    def equal(self) -> bool:
        return not (self.duplicates or self.missing or self.differing)


def published(place: Place) -> list[dict[str, object]]:
    """All rows of all parts."""
    fs, path = place.filesystem()
    parts = [name for name in fs.ls(path, detail=False) if name.endswith(".parquet")]
    tables = [pq.read_table(pa.BufferReader(fs.cat_file(part))) for part in sorted(parts)]
    return [row for table in tables for row in table.to_pylist()]


def compare(undisturbed: Place, disturbed: Place) -> Comparison:
    """Every column of every row, bit for bit."""
    there, here = (published(place) for place in (undisturbed, disturbed))
    expected = {_key(row): row for row in there}
    assert len(expected) == len(there), "the undisturbed run has duplicates"
    counts = Counter(map(_key, here))
    found = {_key(row): row for row in here}
    return Comparison(
        rows=len({row["id"] for row in there}),
        segments=len(here),
        duplicates=sum(count - 1 for count in counts.values()),
        missing=len(expected.keys() - found.keys()),
        differing=sum(expected.get(key) != row for key, row in found.items()),
    )


def _key(row: dict[str, object]) -> Key:
    return str(row["id"]), int(str(row["sample"])), int(str(row["segment"]))
