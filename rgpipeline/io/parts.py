"""Parts: the Parquet objects that rows are published in, and what their footers say."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from rgpipeline.errors import OutputError
from rgpipeline.io.columns import AddedColumns
from rgpipeline.io.cover import Entry, entry_of
from rgpipeline.io.store import Store
from rgpipeline.records import OutputRow

_NAME = re.compile(r"part-(\d{5,})-(\d{4,})\.parquet")
_TAIL = 1 << 16  # bytes; the whole footer of most parts
_MAGIC = b"PAR1"
_DEFAULTS = Entry(row=-1, sample=0, segment=0, progress=1, samples=1)


def part_name(shard: int, part: int) -> str:
    """The name of a shard's part: `part-00012-0000.parquet`."""
    return f"part-{shard:05d}-{part:04d}.parquet"


def parse_part_name(name: str) -> tuple[int, int] | None:
    """(shard, part) of a part's name; None for any other name."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def part_names(store: Store) -> list[str]:
    """The names of all parts in a folder, by shard and part."""
    places = {name: parse_part_name(name) for name in store.list("part-")}
    return sorted((name for name in places if places[name]), key=lambda name: places[name] or ())


def entries_of(footer: Mapping[bytes, bytes]) -> tuple[Entry, ...]:
    """What a part's key-value metadata says of its rows, in order."""
    return _parse_entries(footer[b"rgp.rows"])


@dataclass(frozen=True, slots=True)
class PartFooter:
    """What a part says of itself without its rows being read."""

    shard: int
    part: int
    attempt: str  # whose it is: a worker's life
    fingerprint: str  # of the plan
    entries: tuple[Entry, ...]  # one for each of its rows, in order
    prompt_tokens: int  # of rows whose first segment is here
    completion_tokens: int  # that are here; for task score, tokens scored


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
    PartFooter reads back.
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


def read_footer(store: Store, name: str) -> PartFooter:
    """Reads a part's footer, by range.

    Raises FileNotFoundError when there is no such part, OutputError when it isn't one of ours.
    """
    tail = store.read_tail(name, _TAIL)
    length = int.from_bytes(tail[-8:-4], "little") + 8
    if len(tail) < 12 or not tail.endswith(_MAGIC):
        raise OutputError(f"{store.url(name)}: not a Parquet file; remove it from the output")
    if length > len(tail):
        tail = store.read_tail(name, length)
    try:
        footer = pq.read_metadata(pa.BufferReader(_MAGIC + tail[-length:])).metadata or {}
    except pa.ArrowException as error:
        raise OutputError(
            f"{store.url(name)}: not a Parquet file ({error}); remove it from the output"
        ) from error
    if b"rgp.rows" not in footer:
        raise OutputError(f"{store.url(name)}: not written by rgpipeline; remove it")
    totals = json.loads(footer[b"rgp.tokens"])
    return PartFooter(
        shard=int(footer[b"rgp.shard"]),
        part=int(footer[b"rgp.part"]),
        attempt=footer[b"rgp.attempt"].decode(),
        fingerprint=footer[b"rgp.job"].decode(),
        entries=entries_of(footer),
        prompt_tokens=totals["prompt"],
        completion_tokens=totals["completion"],
    )


def _spell_entries(entries: Sequence[Entry]) -> str:
    """Entries as JSON columns; one that holds nothing but its default is left out."""
    columns = {name: [entry[i] for entry in entries] for i, name in enumerate(Entry._fields)}
    defaults = _DEFAULTS._asdict()
    told = {
        name: column
        for name, column in columns.items()
        if name == "row" or any(value != defaults[name] for value in column)
    }
    return json.dumps(told, separators=(",", ":"))


def _parse_entries(text: bytes) -> tuple[Entry, ...]:
    columns = json.loads(text)
    count = len(columns["row"])
    defaults = _DEFAULTS._asdict()
    full = [columns.get(name, [defaults[name]] * count) for name in Entry._fields]
    return tuple(Entry(*values) for values in zip(*full, strict=True))


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
