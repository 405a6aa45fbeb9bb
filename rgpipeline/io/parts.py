"""Parts, the Parquet objects that rows are published in: writing them and reading their footers."""

import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from rgpipeline.errors import OutputError
from rgpipeline.io.columns import AddedColumns
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
            entries=_parse_entries(values[b"rgp.rows"]),
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


def _parse_entries(text: bytes) -> tuple[Entry, ...]:
    columns = json.loads(text)
    count = len(columns["row"])
    defaults = ENTRY_DEFAULTS._asdict()
    full = [columns.get(name, [defaults[name]] * count) for name in Entry._fields]
    return tuple(Entry(*values) for values in zip(*full, strict=True))


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
