"""What a part's footer says of its rows, read without the rows."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from rgpipeline.errors import OutputError
from rgpipeline.io.cover import Entry
from rgpipeline.io.parts import ENTRY_DEFAULTS, parse_part_name, part_name
from rgpipeline.storage.store import Store

_TAIL = 1 << 16  # bytes; the whole footer of most parts
_MAGIC = b"PAR1"
_THREADS = 32  # waiting for the store, not working


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


def read_footer(store: Store, name: str, fingerprint: str | None = None) -> PartFooter:
    """Reads a part's footer, by range.

    Args:
      fingerprint: of the plan the part must belong to, if given.

    Raises:
      FileNotFoundError: there is no such part.
      OutputError: it is damaged, or isn't one of ours, of this job, under its own name.
    """
    try:
        metadata = _read_metadata(store, name)
    except (pa.ArrowException, OSError):  # before it is called damaged, it is read once more
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
    """The message for a part that can't be used: what is wrong with it, and what to do."""
    return (
        f"{url}: {fault}; remove this file (with no run of the job going on) and run the job "
        f"again: it does the rows that are nowhere else again"
    )


def _read_metadata(store: Store, name: str) -> pq.FileMetaData:
    """Raises FileNotFoundError, and ArrowException or OSError when it isn't whole Parquet."""
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
        told = f"{metadata.num_rows} rows where {len(footer.entries)} were written"
        raise OutputError(unusable(url, f"changed by another program: it has {told}"))
    return footer


def _misplaced(footer: PartFooter, name: str, fingerprint: str | None) -> str:
    """Why a part can't stand under this name in this job's folder; empty when it can."""
    if fingerprint not in (None, footer.fingerprint):
        return f"written by {footer.attempt} for another job"
    place = parse_part_name(name)
    if place is not None and place != (footer.shard, footer.part):
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
