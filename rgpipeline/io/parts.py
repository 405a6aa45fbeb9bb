"""Parts: the Parquet objects that rows are published in."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from rgpipeline.io.columns import AddedColumns
from rgpipeline.io.cover import Entry, entry_of
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
    places = {name: parse_part_name(name) for name in store.list(prefix)}
    return sorted((name for name in places if places[name]), key=lambda name: places[name] or ())


def part_numbers(store: Store, shard: int) -> list[int]:
    """The numbers of a shard's parts that are there, ascending."""
    names = part_names(store, f"part-{shard:05d}-")
    return [place[1] for place in map(parse_part_name, names) if place and place[0] == shard]


@dataclass(frozen=True, slots=True)
class PartLabel:
    """What a part is stamped with besides its rows."""

    shard: int
    part: int
    attempt: str
    fingerprint: str
    about: Mapping[str, str]  # model, seed, versions: for people who find the file


def build_part(
    kept: pa.Table, rows: Sequence[OutputRow], columns: AddedColumns, label: PartLabel
) -> bytes:
    """A part as zstd Parquet: the kept input columns with their exact types, then ours.

    `kept` has one row for each of `rows`, or no columns. The footer carries, under `rgp.*`, what
    `io.footers` reads back.
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
        # Beside the schema, not in it: Arrow stores what is in it a second time.
        writer.add_key_value_metadata(entries)
    return bytes(sink.getvalue())


def footer_metadata(rows: Sequence[OutputRow], label: PartLabel) -> dict[str, str]:
    """The key-value metadata of a part that holds `rows`, in this order."""
    scored = sum(row.score.tokens for row in rows if row.score)
    tokens = {
        "prompt": sum(row.prompt_tokens for row in rows if row.segment == 0),
        "completion": sum(row.completion_tokens for row in rows) + scored,
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
    """Entries as JSON columns; one that holds nothing but its default is left out."""
    columns = {name: [entry[i] for entry in entries] for i, name in enumerate(Entry._fields)}
    defaults = ENTRY_DEFAULTS._asdict()
    told = {
        name: column
        for name, column in columns.items()
        if name == "row" or any(value != defaults[name] for value in column)
    }
    return json.dumps(told, separators=(",", ":"))


def _plain(field: pa.Field) -> pa.Field:
    """The field without its source's notes (pandas' index, field ids), which no longer hold."""
    return field.remove_metadata()


def _compact(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A dictionary column with only the values it uses: a part has few rows of a large table."""
    if not pa.types.is_dictionary(column.type):
        return column
    chunks = [chunk.dictionary_decode().dictionary_encode() for chunk in column.chunks]
    return pa.chunked_array(chunks, pa.dictionary(pa.int32(), column.type.value_type)).cast(
        column.type
    )
