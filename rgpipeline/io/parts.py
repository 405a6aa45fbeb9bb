"""Parts, the Parquet objects that rows are published in: their names, columns and bytes."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from rgpipeline.io.committed_rows import Entry, entry_of
from rgpipeline.records import OutputRow
from rgpipeline.storage.store import Store

_NAME = re.compile(r"part-(\d{5,})-(\d{4,})\.parquet")
ENTRY_DEFAULTS = Entry(row=-1, sample=0, segment=0, progress=1, samples=1)


def part_name(shard: int, part: int) -> str:
    """The name of a shard's part: `part-00012-0000.parquet`."""
    return f"part-{shard:05d}-{part:04d}.parquet"


def parse_part_name(name: str) -> tuple[int, int] | None:
    """(shard, part) of a part's name; None for any other name."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def part_names(store: Store, prefix: str = "part-") -> list[str]:
    """The names of all parts in a folder, by shard and part."""
    found = {name: parse_part_name(name) for name in store.list(prefix)}
    return sorted((name for name in found if found[name]), key=lambda name: found[name] or ())


def part_numbers(store: Store, shard: int) -> list[int]:
    """The numbers of a shard's parts that are there, ascending."""
    names = part_names(store, f"part-{shard:05d}-")
    return [found[1] for found in map(parse_part_name, names) if found and found[0] == shard]


class Column(NamedTuple):
    """A column of the output, and how its value comes of a row."""

    name: str
    type: pa.DataType
    value: Callable[[OutputRow], Any]
    # Its lists all have one length, which the model decides: a part says it in the column's type.
    one_length: bool = False

    def array(self, rows: Sequence[OutputRow]) -> pa.Array:
        """Its values for `rows`."""
        values = [self.value(row) for row in rows]
        lengths = {len(one) for one in values if one is not None} if self.one_length else set()
        kind = pa.list_(self.type.value_type, lengths.pop()) if lengths else self.type
        return pa.array(values, kind)


# What every task's output begins with, and two columns that every task has.
SEGMENT_COLUMNS = (
    Column("id", pa.string(), lambda row: row.id),
    Column("sample", pa.int32(), lambda row: row.sample),
    Column("segment", pa.int32(), lambda row: row.segment),
)
PROMPT_TOKENS = Column("prompt_tokens", pa.int64(), lambda row: row.prompt_tokens)
ERROR = Column("error", pa.string(), lambda row: row.error)


@dataclass(frozen=True, slots=True)
class AddedColumns:
    """The columns that a job adds to its input's, in their order; `prefix` precedes their names."""

    columns: tuple[Column, ...]
    prefix: str = ""

    @property
    def names(self) -> list[str]:
        return [self.prefix + column.name for column in self.columns]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([(self.prefix + column.name, column.type) for column in self.columns])

    def table(self, rows: Sequence[OutputRow]) -> pa.Table:
        """Our columns of `rows`, one row each."""
        return pa.table([column.array(rows) for column in self.columns], names=self.names)

    def sized(self, seen: Iterable[pa.Schema]) -> "AddedColumns":
        """With the length that the lists of columns with `one_length` have in parts' schemas."""
        missing = {self.prefix + one.name: one for one in self.columns if one.one_length}
        found: dict[str, pa.DataType] = {}
        for schema in seen if missing else ():
            kinds = {name: schema.field(name).type for name in missing if name in schema.names}
            found |= {n: kind for n, kind in kinds.items() if pa.types.is_fixed_size_list(kind)}
            if len(found) == len(missing):
                break
        columns = (c._replace(type=found.get(self.prefix + c.name, c.type)) for c in self.columns)
        return replace(self, columns=tuple(columns))


@dataclass(frozen=True, slots=True)
class PartLabel:
    """What a part's footer says besides its rows."""

    shard: int
    part: int
    attempt: str
    fingerprint: str
    about: Mapping[str, str]  # model, seed, version: for people who find the file


def build_part(
    kept: pa.Table, rows: Sequence[OutputRow], columns: AddedColumns, label: PartLabel
) -> bytes:
    """A part as zstd Parquet: the kept input columns with their exact types, then ours.

    `kept` has one row for each of `rows`, or no columns. `read_footer` reads back the footer's
    entries, which are named `rgp.*`.
    """
    if kept.num_columns and kept.num_rows != len(rows):  # without columns Arrow counts no rows
        raise ValueError(f"{kept.num_rows} kept rows for {len(rows)} output rows")
    added = columns.table(rows)
    arrays = [_compact(column) for column in kept.columns] + added.columns
    metadata = footer_metadata(rows, label)
    entries = {"rgp.rows": metadata.pop("rgp.rows")}
    schema = pa.schema([_plain(f) for f in kept.schema] + list(added.schema), metadata)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        writer.write_table(pa.table(arrays, schema=schema))
        # Not in the schema's metadata, because Arrow stores that a second time.
        writer.add_key_value_metadata(entries)
    return bytes(sink.getvalue())


def is_writable(column: pa.Field) -> bool:
    """Whether a column's type can be written as Parquet; Arrow files may have others."""
    try:
        pq.ParquetWriter(pa.BufferOutputStream(), pa.schema([column])).close()
    except pa.ArrowException:
        return False
    return True


def footer_metadata(rows: Sequence[OutputRow], label: PartLabel) -> dict[str, str]:
    """The key-value metadata of a part that holds `rows`, in this order."""
    tokens = {
        "prompt": sum(row.prompt_tokens for row in rows if row.segment == 0),
        "completion": sum(row.completion_tokens for row in rows),
    }
    return {
        "rgp.shard": str(label.shard),
        "rgp.part": str(label.part),
        "rgp.attempt": label.attempt,
        "rgp.job": label.fingerprint,
        "rgp.rows": _spell_entries([entry_of(row) for row in rows]),
        "rgp.tokens": json.dumps(tokens),
        **{f"rgp.{key}": value for key, value in label.about.items()},
    }


def _spell_entries(entries: Sequence[Entry]) -> str:
    """Entries as JSON columns; a column with only its default value is left out."""
    columns = {name: [entry[i] for entry in entries] for i, name in enumerate(Entry._fields)}
    defaults = ENTRY_DEFAULTS._asdict()
    written = {
        name: column
        for name, column in columns.items()
        if name == "row" or any(value != defaults[name] for value in column)
    }
    return json.dumps(written, separators=(",", ":"))


def parse_entries(text: bytes) -> tuple[Entry, ...]:
    """The entries that a part's footer holds, see `footer_metadata`."""
    columns = json.loads(text)
    count = len(columns["row"])
    defaults = ENTRY_DEFAULTS._asdict()
    full = [columns.get(name, [defaults[name]] * count) for name in Entry._fields]
    return tuple(Entry(*values) for values in zip(*full, strict=True))


def _plain(field: pa.Field) -> pa.Field:
    """The field without metadata of its source (pandas' index, field ids)."""
    return field.remove_metadata()


def _compact(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A dictionary column with only the values it uses: a part has few of the file's rows."""
    if not pa.types.is_dictionary(column.type):
        return column
    chunks = [chunk.dictionary_decode().dictionary_encode() for chunk in column.chunks]
    return pa.chunked_array(chunks, pa.dictionary(pa.int32(), column.type.value_type)).cast(
        column.type
    )
