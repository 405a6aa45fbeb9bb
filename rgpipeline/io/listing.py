"""Listing the files at one path (a file, a folder with its subfolders, a glob), and warnings about
those left out or perhaps taken by mistake.
"""

import glob as patterns
import posixpath
from collections.abc import Iterator
from functools import partial
from typing import Any

from fsspec import AbstractFileSystem

from rgpipeline.errors import InputError
from rgpipeline.input_formats import ending_of, endings_of, format_of, how_to_read, may_hold_rows
from rgpipeline.io.input_files import (
    BROKEN,
    FoundFile,
    describe_link,
    glob_base,
    is_glob,
    is_hidden,
)
from rgpipeline.io.saved_datasets import without_metadata
from rgpipeline.storage.filesystems import version_of

_LOGS = {"_delta_log": "Delta", ".hoodie": "Hudi"}
_EXAMPLES = 3  # in a line
_LINES = 5  # of one kind
_TABLES = {
    "Delta": "list in input.path what deltalake.DeltaTable({path!r}).file_uris() gives",
    "Iceberg": "list in input.path the files that pyiceberg's table.scan().plan_files() names",
    "Hudi": "write its current snapshot as Parquet files",
}


class LeftOut:
    """Collects what a listing found and did not take."""

    def __init__(self) -> None:
        self._endings: dict[tuple[str, str], list[str]] = {}  # by (folder, ending)
        self._other: dict[str, list[str]] = {}  # by what it is
        self._tables: dict[str, str] = {}  # path: kind

    def by_ending(self, folder: str, path: str) -> None:
        """Adds a file of a folder whose ending is not one of the format's."""
        self._endings.setdefault((folder, ending_of(path)), []).append(path)

    def no_file(self, path: str, what: str) -> None:
        """Adds something that can't be read as a file or listed as a folder."""
        self._other.setdefault(what, []).append(path)

    def table(self, path: str, kind: str) -> None:
        """Adds a folder that is a table: its files alone don't show which are current."""
        self._tables[path] = kind

    def add(self, other: "LeftOut") -> None:
        """Adds what another listing left out."""
        for key, paths in other._endings.items():
            self._endings.setdefault(key, []).extend(paths)
        for what, paths in other._other.items():
            self._other.setdefault(what, []).extend(paths)
        self._tables |= other._tables

    def advice(self) -> str:
        """How to read the files left out for their ending; empty if there are none."""
        return next((_how_to_read(*key, found) for key, found in self._endings.items()), "")

    def warnings(self) -> Iterator[str]:
        """A line for each kind of thing left out."""
        yield from _few(self._ending_lines(), "endings")
        for what, paths in self._other.items():
            yield f"left out, {what}: {_named(paths)}"
        yield from _few(self._table_lines(), "tables")

    def _ending_lines(self) -> Iterator[str]:
        for (folder, ending), found in self._endings.items():
            files = f"{len(found)} file{'s' if len(found) > 1 else ''}"
            ends = f"ending in {ending}" if ending else "without an ending"
            names = _named([posixpath.relpath(path, folder) for path in found])
            advice = _how_to_read(folder, ending, found)
            yield f"{folder}: {files} {ends} left out ({names}); {advice}"

    def _table_lines(self) -> Iterator[str]:
        for path, kind in self._tables.items():
            current = _TABLES[kind].format(path=path)
            yield (
                f"{path} is a table ({kind}): its folder may hold files that are no longer part of "
                f"it, and they are read too; for the current version {current}"
            )


def _how_to_read(folder: str, ending: str, found: list[str]) -> str:
    nested = any(posixpath.dirname(path) != folder.rstrip("/") for path in found)
    glob = f"{folder.rstrip('/')}/{'**/' if nested else ''}*{ending}"
    return how_to_read(found[0], glob)


def _named(paths: list[str]) -> str:
    more = f", and {len(paths) - _EXAMPLES} more" if len(paths) > _EXAMPLES else ""
    return ", ".join(paths[:_EXAMPLES]) + more


def _few(lines: Iterator[str], what: str) -> Iterator[str]:
    found = list(lines)
    yield from found[:_LINES]
    if len(found) > _LINES:
        yield f"… and {len(found) - _LINES} more {what}"


def find_files(
    fs: AbstractFileSystem, path: str, format: str, left: LeftOut
) -> Iterator[FoundFile]:
    """Files at a path without its protocol, sorted; their `path` lacks it too.

    What is found and not taken is added to `left`. Raises InputError for a broken link in place of
    an input file, and for a path that is neither file nor folder; FileNotFoundError.
    """
    try:
        info = fs.info(path)
    except FileNotFoundError:
        info = None
    if info is None:
        if is_glob(path):
            yield from _matches(fs, path, format, left)
    elif info["type"] == "directory":
        yield from _walk(fs, path, path, format, left)
    elif info["type"] == "file":
        yield _file(path, posixpath.basename(path), info)
    else:
        raise InputError(f"{path}: is a {info['type']}, not a file; write its rows into one")


def _matches(fs: AbstractFileSystem, path: str, format: str, left: LeftOut) -> Iterator[FoundFile]:
    base = glob_base(path)
    found = _glob(fs, path, left)
    if not found:
        path, base = _literal(fs, path)
        found = _glob(fs, path, left) if base else {}
    if found and "http" not in fs.protocol:  # web servers have no folders to ask for
        for mark, kind in _LOGS.items():
            if fs.isdir(f"{base or '/'}/{mark}"):
                left.table(base, kind)
    for match, details in sorted(found.items()):
        name = posixpath.relpath(match, base or "/")
        if is_hidden(name):
            continue
        if details["type"] == "directory":
            yield from _walk(fs, match, base, format, left)
        elif _is_file(match, details, True, left):
            yield _file(match, name, details)


def _glob(fs: AbstractFileSystem, path: str, left: LeftOut) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = fs.glob(path, detail=True, **_noticing(fs, left))
    return found


def _literal(fs: AbstractFileSystem, path: str) -> tuple[str, str]:
    """The glob with those wildcards escaped that are in names of existing folders; and its base.

    `data[1]/*.parquet` names a folder `data[1]`, if it exists. Empty strings if none exists.
    """
    above, escaped = "", ""
    parts = path.split("/")
    for depth, part in enumerate(parts[:-1]):
        literal = f"{above}/{part}" if depth else part
        if not is_glob(part):
            escaped = f"{escaped}/{part}" if depth else part
        elif fs.isdir(literal):
            escaped = f"{escaped}/{patterns.escape(part)}"
        else:
            break
        above = literal
    rest = "/".join(parts[len(above.split("/")) :])
    if not is_glob(above):
        return "", ""
    return f"{escaped}/{rest}", posixpath.normpath(f"{above}/{glob_base(rest)}")


def _walk(
    fs: AbstractFileSystem, folder: str, base: str, format: str, left: LeftOut
) -> Iterator[FoundFile]:
    endings = endings_of(format)
    taken: list[FoundFile] = []
    read: set[Any] = set()  # inodes
    others: dict[str, Any] = {}
    for path, info in sorted(fs.find(folder, detail=True, **_noticing(fs, left)).items()):
        inside = posixpath.relpath(path, folder)
        if _is_table_metadata(folder, inside, left) or is_hidden(inside):
            continue
        fits = path.endswith(endings)
        if not _is_file(path, info, fits, left):
            continue
        if fits:
            taken.append(_file(path, posixpath.relpath(path, base or "/"), info))
            read.add(info.get("ino"))
        elif format_of(path) is None and may_hold_rows(path):
            others[path] = info.get("ino")
    for path, inode in others.items():
        # An inode that was read was read by a link: these are blobs of the Hub's cache.
        if inode is None or inode not in read:
            left.by_ending(folder, path)
    rows, caches = without_metadata(taken)
    for file in caches:
        left.no_file(file.path, "a cache of Hugging Face datasets")
    yield from rows


def _noticing(fs: AbstractFileSystem, left: LeftOut) -> dict[str, Any]:
    """Makes a local listing report folders that can't be read, which fsspec leaves out."""
    if "file" not in fs.protocol:
        return {}
    return {"on_error": partial(_unreadable, left)}


def _unreadable(left: LeftOut, error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        left.no_file(str(error.filename), error.strerror or "unreadable")


def _is_file(path: str, info: dict[str, Any], wanted: bool, left: LeftOut) -> bool:
    """Whether an entry of a listing is a file; any other kind is added to `left`."""
    kind = info["type"]
    if kind == BROKEN and wanted:
        raise InputError(
            f"{path}: {describe_link(path)}; fetch the file (dvc pull, git annex get, …), or "
            f"remove the link"
        )
    if kind not in ("file", "other"):  # some stores call a file `other`
        left.no_file(path, kind)
    return kind in ("file", "other")


def _is_table_metadata(folder: str, inside: str, left: LeftOut) -> bool:
    """Whether a file is metadata of a table (Delta, Hudi, Iceberg), not one of its data files."""
    parts = inside.split("/")
    for mark, kind in _LOGS.items():
        if mark in parts[:-1]:
            left.table(posixpath.normpath("/".join([folder, *parts[: parts.index(mark)]])), kind)
            return True
    if len(parts) > 1 and parts[-2] == "metadata" and parts[-1].endswith(".metadata.json"):
        left.table(posixpath.normpath("/".join([folder, *parts[:-2]])), "Iceberg")
        return True
    return False


def _file(path: str, name: str, info: dict[str, Any]) -> FoundFile:
    return FoundFile(path, name, int(info.get("size") or 0), version_of(info), below=name)
